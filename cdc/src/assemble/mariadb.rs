//! What only MariaDB has: its GTID event, and events whose body is compressed by itself (`log_bin_compress`).

use flate2::{Decompress, FlushDecompress, Status};
use onair_model::Gtid;

use super::body::{Body, Malformed};
use super::gtid::Head;
use super::kind;

/// GTID: sequence, domain, flags; the server is the one of the event's header. What follows is of no use to us: the
/// group commit's id, the XID (said again by the group), more flags. Source: sql/log_event.cc, `Gtid_log_event`.
pub(super) fn gtid(body: &[u8], server: u32) -> Result<Head, Malformed> {
    /// One statement is all of the group; without it, what follows goes on up to a commit.
    const STANDALONE: u8 = 1;

    let mut body = Body(body);
    let sequence = body.number(8)?;
    let domain = body.u32()?;
    let flags = body.u8()?;
    if sequence == 0 {
        return Err(Malformed("its sequence number is 0"));
    }
    Ok(Head {
        gtid: Gtid::Mariadb {
            domain,
            server,
            sequence,
        },
        commit_time: None,
        opened: flags & STANDALONE == 0,
    })
}

/// A compressed event as the kind that it would be otherwise; `None` for all others.
pub(super) fn plain_kind(kind: u8) -> Option<u8> {
    Some(match kind {
        kind::QUERY_COMPRESSED => kind::QUERY,
        kind::WRITE_ROWS_COMPRESSED_V1 => kind::WRITE_ROWS_V1,
        kind::UPDATE_ROWS_COMPRESSED_V1 => kind::UPDATE_ROWS_V1,
        kind::DELETE_ROWS_COMPRESSED_V1 => kind::DELETE_ROWS_V1,
        kind::WRITE_ROWS_COMPRESSED => kind::WRITE_ROWS,
        kind::UPDATE_ROWS_COMPRESSED => kind::UPDATE_ROWS,
        kind::DELETE_ROWS_COMPRESSED => kind::DELETE_ROWS,
        _ => return None,
    })
}

/// How many bytes stay as they are, before the compressed rest. `plain` is the kind as of [`plain_kind`].
fn head_length(plain: u8, event: &[u8]) -> Result<usize, Malformed> {
    let mut body = Body(event);
    if plain == kind::QUERY {
        body.take(4 + 4)?;
        let database = body.length(1)?;
        body.take(2)?;
        let variables = body.length(2)?;
        body.take(variables + database + 1)?;
    } else {
        body.take(6 + 2)?;
        if plain >= kind::WRITE_ROWS {
            let extra = body.length(2)?;
            body.take(extra.saturating_sub(2))?;
        }
        let columns =
            usize::try_from(body.lenenc()?).map_err(|_| Malformed("it has too many columns"))?;
        let images = if matches!(plain, kind::UPDATE_ROWS | kind::UPDATE_ROWS_V1) {
            2
        } else {
            1
        };
        for _ in 0..images {
            body.take(columns.div_ceil(8))?;
        }
    }
    Ok(event.len() - body.0.len())
}

/// Inflates compressed bodies. Kept from one event to the next for its memory.
#[derive(Debug, Default)]
pub(super) struct Inflater {
    zlib: Option<Decompress>,
    buffer: Vec<u8>,
}

/// What came out of a compressed event.
#[derive(Debug)]
pub(super) enum Inflated<'a> {
    /// The body of the plain kind.
    Body(&'a [u8]),
    /// It says to be this long, more than allowed.
    TooLong(usize),
}

impl Inflater {
    /// Room at most kept for the next event.
    const ROOM_KEPT: usize = 4 << 20;

    /// The body that the event of kind `plain` would have without compression. The compressed part: a byte with the
    /// algorithm (0 is zlib) and how many bytes the length has, the length (big-endian), the data
    /// (sql/log_event.cc, `binlog_buf_uncompress`).
    pub(super) fn inflate(
        &mut self,
        plain: u8,
        event: &[u8],
        limit: usize,
    ) -> Result<Inflated<'_>, Malformed> {
        let (head, packed) = event.split_at(head_length(plain, event)?);
        let mut packed = Body(packed);
        let first = packed.u8()?;
        let width = usize::from(first & 0x07);
        if first & 0xf8 != 0x80 || width > 4 {
            return Err(Malformed("it is compressed in a way that is unknown"));
        }
        let length = packed
            .take(width)?
            .iter()
            .fold(0, |length, &byte| length << 8 | usize::from(byte));
        if length > limit {
            return Ok(Inflated::TooLong(length));
        }
        if self.buffer.len() > Self::ROOM_KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(head);
        // Zlib makes at most about a thousand bytes of one, so that a length which only says to be large costs nothing.
        let possible = packed.0.len().saturating_mul(1100).saturating_add(64);
        if length > possible {
            return Err(Malformed("it cannot unpack to as much as it says"));
        }
        self.buffer.reserve_exact(length);
        let zlib = self.zlib.get_or_insert_with(|| Decompress::new(true));
        zlib.reset(true);
        let outcome = zlib.decompress_vec(packed.0, &mut self.buffer, FlushDecompress::Finish);
        let whole =
            zlib.total_in() == packed.0.len() as u64 && self.buffer.len() == head.len() + length;
        match outcome {
            Ok(Status::StreamEnd) if whole => Ok(Inflated::Body(&self.buffer)),
            _ => Err(Malformed("its compressed data is damaged")),
        }
    }
}
