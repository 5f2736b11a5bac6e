//! A reader of protobuf messages of its own, so that the encoder is not compared with itself.

use std::collections::BTreeMap;

use onair_model::schema::FieldKind;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wire {
    Varint(u64),
    Eight([u8; 8]),
    Four([u8; 4]),
    Bytes(Vec<u8>),
}

/// Fields by number; `None` when they are not ascending, or the bytes end early.
pub(crate) fn fields(mut message: &[u8]) -> Option<BTreeMap<u32, Wire>> {
    let mut fields = BTreeMap::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let number = (tag >> 3) as u32;
        if fields
            .last_key_value()
            .is_some_and(|(last, _)| *last >= number)
        {
            return None;
        }
        let value = match tag & 7 {
            0 => Wire::Varint(varint(&mut message)?),
            1 => Wire::Eight(take(&mut message, 8)?.try_into().ok()?),
            5 => Wire::Four(take(&mut message, 4)?.try_into().ok()?),
            2 => {
                let len = varint(&mut message)? as usize;
                Wire::Bytes(take(&mut message, len)?.to_vec())
            }
            _ => return None,
        };
        fields.insert(number, value);
    }
    Some(fields)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for i in 0..10 {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

impl Wire {
    /// The value as SELECT would print it, from what the field's kind says of the wire.
    pub(crate) fn show(&self, kind: FieldKind) -> Vec<u8> {
        match (kind, self) {
            (FieldKind::Int, Wire::Varint(n)) => {
                let value = (n >> 1) as i64 ^ -((n & 1) as i64);
                value.to_string().into_bytes()
            }
            (FieldKind::UInt | FieldKind::Bit | FieldKind::Year, Wire::Varint(n)) => {
                n.to_string().into_bytes()
            }
            (FieldKind::Float, Wire::Four(bytes)) => {
                format!("{:?}", f64::from(f32::from_le_bytes(*bytes))).into_bytes()
            }
            (FieldKind::Double, Wire::Eight(bytes)) => {
                format!("{:?}", f64::from_le_bytes(*bytes)).into_bytes()
            }
            (
                FieldKind::Decimal
                | FieldKind::Date
                | FieldKind::Time
                | FieldKind::DateTime
                | FieldKind::Timestamp
                | FieldKind::Text
                | FieldKind::Enum
                | FieldKind::Set
                | FieldKind::Json,
                Wire::Bytes(bytes),
            ) => {
                std::str::from_utf8(bytes).expect("protobuf strings are UTF-8");
                bytes.clone()
            }
            (FieldKind::Binary | FieldKind::Vector | FieldKind::Geometry, Wire::Bytes(bytes)) => {
                bytes.clone()
            }
            _ => panic!("{self:?} for {kind:?}"),
        }
    }
}
