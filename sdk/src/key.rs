//! What `get` takes: integers of any width, text, bytes, tuples of them, and [`Key`] itself.

use onair_model::Key;
use onair_model::key::KeyWriter;
use onair_model::schema::{Field, FieldKind};

/// A value that can name a row of a feed. Which canonical bytes it becomes depends on the feed's key columns: an
/// integer of any width fits an integer column of either sign when its value does.
pub trait AsKey: sealed::Sealed {
    /// Calls `f` with the canonical bytes; `None` when no key of such columns can be equal to it.
    #[doc(hidden)]
    fn with_key<R>(&self, columns: &[Field], f: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// The kinds of the columns that it stands for by itself.
    #[doc(hidden)]
    fn kinds() -> Vec<FieldKind>;
}

/// One column of a key in a tuple.
pub trait KeyPart: sealed::Sealed {
    /// Appends it as a column of this kind.
    #[doc(hidden)]
    fn write(&self, kind: FieldKind, writer: &mut KeyWriter<'_>) -> Option<()>;

    /// The kind that it stands for by itself.
    #[doc(hidden)]
    const KIND: FieldKind;
}

mod sealed {
    pub trait Sealed {}
}

#[inline]
fn is_integer(kind: FieldKind) -> bool {
    matches!(
        kind,
        FieldKind::Int | FieldKind::UInt | FieldKind::Bit | FieldKind::Year
    )
}

/// The eight bytes of an integer in a column of this kind.
#[inline]
fn integer(value: i128, kind: FieldKind) -> Option<u64> {
    match kind {
        FieldKind::Int => i64::try_from(value).ok().map(|n| n as u64 ^ (1 << 63)),
        kind if is_integer(kind) => u64::try_from(value).ok(),
        _ => None,
    }
}

macro_rules! integers {
    ($kind:expr, $($int:ty),*) => {$(
        impl sealed::Sealed for $int {}

        impl AsKey for $int {
            fn with_key<R>(&self, columns: &[Field], f: impl FnOnce(&[u8]) -> R) -> Option<R> {
                let [column] = columns else { return None };
                integer(*self as i128, column.kind).map(|n| f(&n.to_be_bytes()))
            }

            fn kinds() -> Vec<FieldKind> {
                vec![$kind]
            }
        }

        impl KeyPart for $int {
            fn write(&self, kind: FieldKind, writer: &mut KeyWriter<'_>) -> Option<()> {
                writer.unsigned(integer(*self as i128, kind)?);
                Some(())
            }

            const KIND: FieldKind = $kind;
        }
    )*};
}
integers!(FieldKind::Int, i8, i16, i32, i64, isize);
integers!(FieldKind::UInt, u8, u16, u32, u64, usize);

macro_rules! strings {
    ($kind:expr, $($text:ty),*) => {$(
        impl sealed::Sealed for $text {}

        impl AsKey for $text {
            fn with_key<R>(&self, columns: &[Field], f: impl FnOnce(&[u8]) -> R) -> Option<R> {
                let [column] = columns else { return None };
                (!is_integer(column.kind)).then(|| f(self.as_ref()))
            }

            fn kinds() -> Vec<FieldKind> {
                vec![$kind]
            }
        }

        impl KeyPart for $text {
            fn write(&self, kind: FieldKind, writer: &mut KeyWriter<'_>) -> Option<()> {
                (!is_integer(kind)).then(|| writer.bytes(self.as_ref()))
            }

            const KIND: FieldKind = $kind;
        }
    )*};
}
strings!(FieldKind::Text, str, String);
strings!(FieldKind::Binary, [u8], Vec<u8>);

impl sealed::Sealed for Key {}

impl AsKey for Key {
    fn with_key<R>(&self, _columns: &[Field], f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        Some(self.with_bytes(f))
    }

    fn kinds() -> Vec<FieldKind> {
        vec![FieldKind::Binary]
    }
}

impl<K: sealed::Sealed + ?Sized> sealed::Sealed for &K {}

impl<K: AsKey + ?Sized> AsKey for &K {
    fn with_key<R>(&self, columns: &[Field], f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        (**self).with_key(columns, f)
    }

    fn kinds() -> Vec<FieldKind> {
        K::kinds()
    }
}

impl<K: KeyPart + ?Sized> KeyPart for &K {
    fn write(&self, kind: FieldKind, writer: &mut KeyWriter<'_>) -> Option<()> {
        (**self).write(kind, writer)
    }

    const KIND: FieldKind = K::KIND;
}

macro_rules! tuples {
    ($(($($part:ident . $at:tt),*)),*) => {$(
        impl<$($part: KeyPart),*> sealed::Sealed for ($($part,)*) {}

        impl<$($part: KeyPart),*> AsKey for ($($part,)*) {
            fn with_key<R>(&self, columns: &[Field], f: impl FnOnce(&[u8]) -> R) -> Option<R> {
                if columns.len() != Self::kinds().len() {
                    return None;
                }
                let mut bytes = Vec::new();
                let mut writer = KeyWriter::new(&mut bytes, columns.len());
                $(self.$at.write(columns[$at].kind, &mut writer)?;)*
                Some(f(&bytes))
            }

            fn kinds() -> Vec<FieldKind> {
                vec![$($part::KIND),*]
            }
        }
    )*};
}
tuples!((A.0, B.1), (A.0, B.1, C.2), (A.0, B.1, C.2, D.3));

/// The key that this value names in a feed with such key columns.
pub(crate) fn to_key(key: &(impl AsKey + ?Sized), columns: &[Field]) -> Option<Key> {
    key.with_key(columns, Key::copy_from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(kinds: &[FieldKind]) -> Vec<Field> {
        let field = |&kind| Field {
            column: "k".into(),
            name: "k".into(),
            number: 0,
            kind,
        };
        kinds.iter().map(field).collect()
    }

    #[test]
    fn integers_of_any_width_name_the_same_row() {
        let unsigned = columns(&[FieldKind::UInt]);
        for key in [
            to_key(&42u8, &unsigned),
            to_key(&42i32, &unsigned),
            to_key(&&42u64, &unsigned),
        ] {
            assert_eq!(key, Some(Key::from_u64(42)));
        }
        assert_eq!(to_key(&-1, &unsigned), None);
        let signed = columns(&[FieldKind::Int]);
        assert_eq!(to_key(&-1i8, &signed), Some(Key::from_i64(-1)));
        assert_eq!(to_key(&7usize, &signed), Some(Key::from_i64(7)));
        assert_eq!(to_key(&u64::MAX, &signed), None);
        assert_eq!(to_key("42", &signed), None);
        assert_eq!(to_key(&Key::from_i64(3), &signed), Some(Key::from_i64(3)));
    }

    #[test]
    fn text_and_tuples() {
        let text = columns(&[FieldKind::Text]);
        assert_eq!(to_key("eu", &text), Some(Key::copy_from(b"eu")));
        assert_eq!(to_key(&"eu".to_owned(), &text), Some(Key::copy_from(b"eu")));
        assert_eq!(to_key(&5, &text), None);
        let both = columns(&[FieldKind::Text, FieldKind::Int]);
        let mut bytes = Vec::new();
        let mut writer = KeyWriter::new(&mut bytes, 2);
        writer.bytes(b"eu");
        writer.signed(5);
        assert_eq!(to_key(&("eu", 5u8), &both), Some(Key::copy_from(&bytes)));
        assert_eq!(to_key(&("eu", 5u8, 6), &both), None);
    }
}
