//! Bounds-checked reading of event bodies.

use super::DecodeError;

/// What is left of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// Fewer bytes than the format says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short;

impl From<Short> for DecodeError {
    fn from(_: Short) -> Self {
        DecodeError::Damaged("it ends before its content does".to_owned())
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        let (first, rest) = self.rest.split_first().ok_or(Short)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Little-endian, `len` bytes, 8 at most.
    pub(super) fn uint(&mut self, len: usize) -> Result<u64, Short> {
        self.take(len).map(uint_le)
    }

    /// A length-encoded integer.
    pub(super) fn lenenc(&mut self) -> Result<u64, Short> {
        match self.u8()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            _ => Err(Short),
        }
    }

    /// A length-encoded integer that counts bytes or columns held in memory.
    pub(super) fn lenenc_len(&mut self) -> Result<usize, Short> {
        usize::try_from(self.lenenc()?).map_err(|_| Short)
    }

    /// Bytes behind their length-encoded length.
    pub(super) fn lenenc_bytes(&mut self) -> Result<&'a [u8], Short> {
        let len = self.lenenc_len()?;
        self.take(len)
    }
}

/// Little-endian, 8 bytes at most.
#[inline]
pub(super) fn uint_le(bytes: &[u8]) -> u64 {
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => bytes
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
    }
}

/// Big-endian, 8 bytes at most.
#[inline]
pub(super) fn uint_be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// Two's complement, little-endian, 1 to 8 bytes.
#[inline]
pub(super) fn int_le(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    (uint_le(bytes) << unused) as i64 >> unused
}
