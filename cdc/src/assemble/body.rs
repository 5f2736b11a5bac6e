//! Reading bodies of events: every access is checked, nothing is copied.

/// Bytes that do not follow the format, and what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const SHORT: Malformed = Malformed("it ends too early");

/// What is left of a body.
#[derive(Clone, Copy)]
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(head)
    }

    /// A little-endian unsigned number of `width` bytes, at most 8.
    pub(super) fn number(&mut self, width: usize) -> Result<u64, Malformed> {
        let mut bytes = [0; 8];
        bytes
            .get_mut(..width)
            .ok_or(SHORT)?
            .copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.number(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(self.number(4)? as u32)
    }

    /// A length, as far as this machine can address it.
    pub(super) fn length(&mut self, width: usize) -> Result<usize, Malformed> {
        usize::try_from(self.number(width)?).map_err(|_| SHORT)
    }

    /// The protocol's length-encoded integer. NULL (251) is not a number here.
    pub(super) fn lenenc(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.number(2),
            253 => self.number(3),
            254 => self.number(8),
            _ => Err(Malformed("a length-encoded integer is none")),
        }
    }

    /// An unsigned integer of MySQL's serialization library: as many low one bits as bytes follow the first,
    /// then a zero bit (libs/mysql/serialization/variable_length_integers.h).
    pub(super) fn varlen(&mut self) -> Result<u64, Malformed> {
        let first = *self.0.first().ok_or(SHORT)?;
        match first.trailing_ones() as usize {
            8 => {
                self.take(1)?;
                self.number(8)
            }
            more => Ok(self.number(more + 1)? >> (more + 1)),
        }
    }

    /// A signed one: the lowest bit is the sign. Only what may not be negative is stored so in what we read.
    pub(super) fn varlen_positive(&mut self) -> Result<u64, Malformed> {
        let coded = self.varlen()?;
        if coded & 1 == 1 {
            return Err(Malformed("a number is negative that cannot be"));
        }
        Ok(coded >> 1)
    }
}
