//! Lineage, epoch and version: which world, which unbroken history, which transaction in it.

use std::fmt;
use std::str::FromStr;

const SEQUENCE_BITS: u32 = 43;
const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;
const EPOCH_MAX: u32 = (1 << 20) - 1;

/// A 128-bit random id made with an empty store. Another lineage is another world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lineage(u128);

impl Lineage {
    /// Wraps the random id.
    pub const fn new(id: u128) -> Self {
        Lineage(id)
    }

    /// The id.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One unbroken history of one source. 20 bits, from 1; 0 is "none yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u32);

impl Epoch {
    /// Before the first epoch.
    pub const NONE: Epoch = Epoch(0);

    /// An epoch by its number, `None` above 20 bits.
    pub const fn new(number: u32) -> Option<Self> {
        if number <= EPOCH_MAX {
            Some(Epoch(number))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The epoch after this one, `None` when all are used up (a new lineage is needed then).
    pub const fn next(self) -> Option<Self> {
        Epoch::new(self.0 + 1)
    }

    /// The version before the first transaction of the epoch: the state that its scan found.
    pub const fn start(self) -> Version {
        Version((self.0 as u64) << SEQUENCE_BITS)
    }

    /// The highest version that the epoch can have.
    pub const fn last(self) -> Version {
        Version(((self.0 as u64) << SEQUENCE_BITS) | SEQUENCE_MAX)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Epoch (20 bits) then sequence (43 bits), below 2^63. An order, never a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// Before everything.
    pub const ZERO: Version = Version(0);

    /// The version with this sequence in this epoch, `None` above 43 bits.
    pub const fn new(epoch: Epoch, sequence: u64) -> Option<Self> {
        if sequence <= SEQUENCE_MAX {
            Some(Version(((epoch.0 as u64) << SEQUENCE_BITS) | sequence))
        } else {
            None
        }
    }

    /// The version with this 64-bit form, `None` at or above 2^63.
    pub const fn from_u64(value: u64) -> Option<Self> {
        if value >> 63 == 0 {
            Some(Version(value))
        } else {
            None
        }
    }

    /// The 64-bit form.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its epoch.
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> SEQUENCE_BITS) as u32)
    }

    /// Its place in the epoch, 0 for the state that the epoch's scan found.
    pub const fn sequence(self) -> u64 {
        self.0 & SEQUENCE_MAX
    }

    /// The next version of the epoch, `None` when its sequence is full (a new epoch is needed then).
    pub const fn next(self) -> Option<Self> {
        if self.sequence() == SEQUENCE_MAX {
            None
        } else {
            Some(Version(self.0 + 1))
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch(), self.sequence())
    }
}

/// A text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version: write EPOCH-SEQUENCE, both decimal, for example 3-1842")]
pub struct ParseVersionError(String);

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let wrong = || ParseVersionError(text.to_owned());
        let (epoch, sequence) = text.split_once('-').ok_or_else(wrong)?;
        let decimal = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !decimal(epoch) || !decimal(sequence) {
            return Err(wrong());
        }
        let epoch = epoch.parse().ok().and_then(Epoch::new).ok_or_else(wrong)?;
        let sequence = sequence.parse().map_err(|_| wrong())?;
        Version::new(epoch, sequence).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses() {
        let version = Version::new(Epoch::new(3).unwrap(), 1842).unwrap();
        assert_eq!(version.to_string(), "3-1842");
        assert_eq!("3-1842".parse(), Ok(version));
        let last = Version::from_u64(u64::MAX >> 1).unwrap();
        assert_eq!(last.to_string(), "1048575-8796093022207");
        assert_eq!(last.to_string().parse(), Ok(last));
        assert_eq!(last.next(), None);
        for wrong in [
            "",
            "3",
            "-1",
            "3-",
            "+3-1",
            "3-+1",
            "1048576-0",
            "1-8796093022208",
            "3-1-2",
        ] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn epochs_order_before_sequences() {
        let epoch = Epoch::new(7).unwrap();
        let full = Version::new(epoch, SEQUENCE_MAX).unwrap();
        assert_eq!(full.next(), None);
        assert_eq!(epoch.last(), full);
        assert!(epoch.next().unwrap().start() > full);
        assert_eq!(Epoch::new(EPOCH_MAX).unwrap().next(), None);
    }
}
