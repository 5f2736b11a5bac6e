//! Where in the binlog a stream stands. For people: nothing is decided by it, GTIDs are positions.

use std::fmt;
use std::sync::Arc;

/// A binlog file and a position in it, as `mysqlbinlog --stop-position` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    file: Arc<str>,
    position: u64,
}

impl Place {
    /// What a ROTATE names: the position of the next event (8 bytes, little-endian), then the file.
    pub(super) fn of_rotate(body: &[u8]) -> Option<Self> {
        let (position, file) = body.split_first_chunk()?;
        Some(Place {
            file: String::from_utf8_lossy(file).into(),
            position: u64::from_le_bytes(*position),
        })
    }

    /// An event ends at `next`, the low 32 bits of a position; 0: it stands in no file.
    pub(super) fn pass(&mut self, next: u32) {
        if next == 0 {
            return;
        }
        let high = self.position & !u64::from(u32::MAX);
        let next = high | u64::from(next);
        // Positions rise within a file, also past 4 GiB.
        self.position = match next < self.position {
            true => next + (1 << 32),
            false => next,
        };
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_rises_past_four_gibibytes() {
        let mut place = Place::of_rotate(b"\x04\0\0\0\0\0\0\0binlog.000004").unwrap();
        let mut said = vec![place.to_string()];
        for next in [126, 0, u32::MAX, 7, 7 + 40] {
            place.pass(next);
            said.push(place.to_string());
        }
        let expected = [4_u64, 126, 126, 4_294_967_295, 4_294_967_303, 4_294_967_343];
        assert_eq!(said, expected.map(|at| format!("binlog.000004:{at}")));
        assert_eq!(Place::of_rotate(b"short"), None);
    }
}
