//! Walking a row image: from the null bitmap to the end, noting where the wanted columns lie.
//!
//! A run of columns of fixed width is one step when none of them is NULL, whatever their number.

use super::bytes::{Short, uint_le};
use super::wire::{Space, Wire};

/// Where a column's bytes lie in the event's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// NULL.
    pub(super) const NULL: Span = Span {
        at: 0,
        len: u32::MAX,
    };

    /// The bytes; `None` for NULL. The span must come from walking the same body.
    #[inline]
    pub(crate) fn of(self, body: &[u8]) -> Option<&[u8]> {
        if self.len == u32::MAX {
            return None;
        }
        let at = self.at as usize;
        body.get(at..at + self.len as usize)
    }
}

/// The steps over the images of one table map, all columns present.
#[derive(Debug)]
pub(super) struct Walk {
    steps: Vec<Step>,
    null_bytes: usize,
}

#[derive(Debug)]
enum Step {
    Run(Run),
    Prefixed {
        word: u16,
        bit: u64,
        prefix: u8,
        slot: Option<u16>,
    },
}

/// Neighbouring columns of fixed width within one word of the null bitmap.
#[derive(Debug)]
struct Run {
    word: u16,
    mask: u64,
    total: u32,
    /// Wanted ones: slot, offset in the run, width.
    takes: Vec<(u16, u32, u32)>,
    /// All of them for when one is NULL: bit, width, slot.
    columns: Vec<(u64, u32, Option<u16>)>,
}

impl Walk {
    /// Compiles the steps; `slots[ordinal]` is where a wanted column's span goes.
    pub(super) fn compile(wires: &[Wire], slots: &[Option<u16>]) -> Walk {
        let mut steps = Vec::new();
        let mut run: Option<Run> = None;
        for (ordinal, wire) in wires.iter().enumerate() {
            let (word, bit) = ((ordinal / 64) as u16, 1u64 << (ordinal % 64));
            let slot = slots[ordinal];
            if run.as_ref().is_some_and(|run| run.word != word) {
                steps.extend(run.take().map(Step::Run));
            }
            match wire.space() {
                Space::Fixed(width) => {
                    let run = run.get_or_insert_with(|| Run {
                        word,
                        mask: 0,
                        total: 0,
                        takes: Vec::new(),
                        columns: Vec::new(),
                    });
                    run.takes.extend(slot.map(|slot| (slot, run.total, width)));
                    run.columns.push((bit, width, slot));
                    run.mask |= bit;
                    run.total += width;
                }
                Space::Prefixed(prefix) => {
                    steps.extend(run.take().map(Step::Run));
                    steps.push(Step::Prefixed {
                        word,
                        bit,
                        prefix,
                        slot,
                    });
                }
            }
        }
        steps.extend(run.map(Step::Run));
        Walk {
            steps,
            null_bytes: wires.len().div_ceil(8),
        }
    }

    /// Walks the image that begins at `at`, fills the spans, returns where it ends.
    #[inline]
    pub(super) fn image(&self, body: &[u8], at: usize, spans: &mut [Span]) -> Result<usize, Short> {
        let bitmap = Bitmap {
            body,
            at,
            end: at + self.null_bytes,
        };
        let mut at = bitmap.end;
        if at > body.len() {
            return Err(Short);
        }
        let (mut word, mut nulls) = (0, bitmap.word(0));
        for step in &self.steps {
            match step {
                Step::Run(run) => {
                    if run.word != word {
                        (word, nulls) = (run.word, bitmap.word(run.word));
                    }
                    if nulls & run.mask == 0 {
                        for &(slot, offset, width) in &run.takes {
                            spans[usize::from(slot)] = Span {
                                at: at as u32 + offset,
                                len: width,
                            };
                        }
                        at += run.total as usize;
                    } else {
                        at = run.with_nulls(nulls, at, spans);
                    }
                    if at > body.len() {
                        return Err(Short);
                    }
                }
                Step::Prefixed {
                    word: own,
                    bit,
                    prefix,
                    slot,
                } => {
                    if *own != word {
                        (word, nulls) = (*own, bitmap.word(*own));
                    }
                    let span = if nulls & bit != 0 {
                        Span::NULL
                    } else {
                        let start = at + usize::from(*prefix);
                        if start > body.len() {
                            return Err(Short);
                        }
                        let len = load(body, at, start) as usize;
                        if len > body.len() - start {
                            return Err(Short);
                        }
                        at = start + len;
                        Span {
                            at: start as u32,
                            len: len as u32,
                        }
                    };
                    if let Some(slot) = slot {
                        spans[usize::from(*slot)] = span;
                    }
                }
            }
        }
        Ok(at)
    }
}

impl Run {
    fn with_nulls(&self, nulls: u64, mut at: usize, spans: &mut [Span]) -> usize {
        for &(bit, width, slot) in &self.columns {
            let null = nulls & bit != 0;
            if let Some(slot) = slot {
                spans[usize::from(slot)] = if null {
                    Span::NULL
                } else {
                    Span {
                        at: at as u32,
                        len: width,
                    }
                };
            }
            if !null {
                at += width as usize;
            }
        }
        at
    }
}

/// The null bitmap of an image, within the body.
struct Bitmap<'a> {
    body: &'a [u8],
    at: usize,
    end: usize,
}

impl Bitmap<'_> {
    /// 64 bits of it; zeros beyond its end.
    #[inline]
    fn word(&self, word: u16) -> u64 {
        let at = self.at + usize::from(word) * 8;
        load(self.body, at, self.end.min(at + 8))
    }
}

/// Little-endian bytes within the body, eight at most. Eight are read at once where there are so many.
#[inline]
fn load(body: &[u8], at: usize, end: usize) -> u64 {
    match body.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(eight) if end > at => u64::from_le_bytes(*eight) & u64::MAX >> (64 - 8 * (end - at)),
        _ => uint_le(body.get(at..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::column::IntWidth;

    const INT: Wire = Wire::Int(IntWidth::Int);
    const TEXT: Wire = Wire::VarChar { max: 100 };

    #[test]
    fn runs_nulls_and_prefixes() {
        let wires = [INT, INT, TEXT, Wire::Year, INT];
        let slots = [None, Some(0), Some(1), None, Some(2)];
        let walk = Walk::compile(&wires, &slots);
        let mut spans = [Span::NULL; 3];
        let body = b"\x00aaaabbbb\x03cccdeeee";
        assert_eq!(walk.image(body, 0, &mut spans).ok(), Some(body.len()));
        let bytes = spans.map(|s| s.of(body));
        assert_eq!(bytes, [Some(&b"bbbb"[..]), Some(b"ccc"), Some(b"eeee")]);
        let nulls = b"..\x15bbbbd";
        assert_eq!(walk.image(nulls, 2, &mut spans).ok(), Some(nulls.len()));
        let bytes = spans.map(|s| s.of(nulls));
        assert_eq!(bytes, [Some(&b"bbbb"[..]), None, None]);
        for short in 0..body.len() {
            assert!(walk.image(&body[..short], 0, &mut spans).is_err());
        }
    }

    #[test]
    fn more_columns_than_a_word_has_bits() {
        let wires = vec![Wire::Year; 200];
        let mut slots = vec![None; 200];
        slots[64] = Some(0);
        slots[199] = Some(1);
        let walk = Walk::compile(&wires, &slots);
        let mut body = vec![0; 25];
        body[0] = 1; // column 0
        body[24] = 1; // column 192
        body.extend((0..198u8).map(|n| n + 1));
        let mut spans = [Span::NULL; 2];
        assert_eq!(walk.image(&body, 0, &mut spans).ok(), Some(25 + 198));
        assert_eq!(spans.map(|s| s.of(&body)), [Some(&[64][..]), Some(&[198])]);
    }
}
