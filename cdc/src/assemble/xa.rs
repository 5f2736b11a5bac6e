//! XA: prepared transactions, whose rows are in the binlog long before anybody knows whether they count.

use std::fmt;

use onair_model::{Gtid, Row};

use super::body::{Body, Malformed};
use crate::change::KeyChange;

/// A transaction id of the X/Open standard: format, global part, branch part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Xid {
    format: u32,
    global: u8,
    branch: u8,
    /// Both parts, one after the other; zeros behind them.
    data: [u8; 2 * PART_MAX],
}

/// Bytes of each part at most, by the standard.
const PART_MAX: usize = 64;

impl Xid {
    pub(super) fn new(format: u32, global: &[u8], branch: &[u8]) -> Result<Self, Malformed> {
        if global.len() > PART_MAX || branch.len() > PART_MAX {
            return Err(Malformed("its XID is too long"));
        }
        let mut data = [0; 2 * PART_MAX];
        data[..global.len()].copy_from_slice(global);
        data[global.len()..global.len() + branch.len()].copy_from_slice(branch);
        Ok(Xid {
            format,
            global: global.len() as u8,
            branch: branch.len() as u8,
            data,
        })
    }

    /// `X'6162',X'63',1`, as both servers write it. Gives what follows, too.
    pub(super) fn parse(text: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        Self::parse_text(text).ok_or(Malformed("its XID cannot be read"))
    }

    fn parse_text(text: &[u8]) -> Option<(Self, &[u8])> {
        let (mut global, mut branch) = ([0; PART_MAX], [0; PART_MAX]);
        let (global_length, rest) = hex(text, &mut global)?;
        let (branch_length, rest) = hex(rest.strip_prefix(b",")?, &mut branch)?;
        let rest = rest.strip_prefix(b",")?;
        let end = rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(rest.len());
        let format = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        let xid = Self::new(format, &global[..global_length], &branch[..branch_length]).ok()?;
        Some((xid, &rest[end..]))
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (global, rest) = self.data.split_at(self.global as usize);
        (global, &rest[..self.branch as usize])
    }
}

/// Reads `X'6162'` into `part`. Gives how long it is and what follows.
fn hex<'a>(text: &'a [u8], part: &mut [u8; PART_MAX]) -> Option<(usize, &'a [u8])> {
    let text = text.trim_ascii_start();
    let digits = text
        .strip_prefix(b"X'")
        .or_else(|| text.strip_prefix(b"x'"))?;
    let end = digits.iter().position(|&byte| byte == b'\'')?;
    let (pairs, odd) = digits[..end].as_chunks::<2>();
    if !odd.is_empty() || pairs.len() > PART_MAX {
        return None;
    }
    for (byte, pair) in part.iter_mut().zip(pairs) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some((pairs.len(), &digits[end + 1..]))
}

impl fmt::Display for Xid {
    /// As in XA statements and XA RECOVER CONVERT XID: `X'6162',X'',1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (global, branch) = self.parts();
        for part in [global, branch] {
            f.write_str("X'")?;
            for byte in part {
                write!(f, "{byte:02x}")?;
            }
            f.write_str("',")?;
        }
        write!(f, "{}", self.format)
    }
}

impl fmt::Debug for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The body of XA_PREPARE: the XID, and whether it was committed at once (`XA COMMIT .. ONE PHASE`).
pub(super) fn prepare(body: &[u8]) -> Result<(Xid, bool), Malformed> {
    let mut body = Body(body);
    let one_phase = body.u8()? != 0;
    let format = body.u32()?;
    let global = body.length(4)?;
    let branch = body.length(4)?;
    let xid = Xid::new(format, body.take(global)?, body.take(branch)?)?;
    Ok((xid, one_phase))
}

/// The prepared transactions that are neither committed nor rolled back, with their changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Few: a search costs less than an index.
    open: Vec<Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    xid: Xid,
    /// Of its PREPARE.
    gtid: Gtid,
    changes: Changes,
    bytes: usize,
}

/// As in [`Transaction::changes`](crate::change::Transaction::changes).
pub(super) type Changes = Vec<(usize, Vec<KeyChange>)>;

impl Prepared {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Xid, Gtid)> {
        self.open.iter().map(|held| (&held.xid, held.gtid))
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Memory that the held changes take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, xid: &Xid) -> bool {
        self.open.iter().any(|held| held.xid == *xid)
    }

    pub(super) fn hold(&mut self, xid: Xid, gtid: Gtid, changes: Changes) {
        let bytes = changes
            .iter()
            .flat_map(|(_, changes)| changes)
            .map(size)
            .sum();
        self.bytes += bytes;
        self.open.push(Held {
            xid,
            gtid,
            changes,
            bytes,
        });
    }

    pub(super) fn remove(&mut self, xid: &Xid) -> Option<Changes> {
        let at = self.open.iter().position(|held| held.xid == *xid)?;
        let held = self.open.remove(at);
        self.bytes -= held.bytes;
        Some(held.changes)
    }
}

fn size(change: &KeyChange) -> usize {
    let row = |row: &Option<Row>| row.as_ref().map_or(0, |row| row.bytes().len());
    size_of::<KeyChange>()
        + change.key.with_bytes(<[u8]>::len)
        + row(&change.before)
        + row(&change.after)
}
