//! The last cuts that anybody may have seen, in a file that survives a kill -9.
//!
//! The file has a header, two places for a full cut and two for what came after it. A full cut goes to the place
//! that the last one is not in; then the later-place that was not written last names its generation. Each place
//! carries a checksum, so a write that was torn leaves the one before. Nothing is synced: what a kill of the
//! process leaves is enough, for the entries themselves do not survive the machine either.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onair_model::CutRecord;
use onair_proto::{convert, v1};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::LogError;
use crate::cuts::Cuts;

/// First bytes of the file; the last one is the format's version.
const MAGIC: &[u8; 16] = b"onair-log-tail\0\x01";

/// Bytes of one place. A cut that names 65,535 buckets takes about one MiB; places are sparse.
const PLACE: u64 = 4 * 1024 * 1024;
const HEADER: u64 = 4096;

/// Generation, generation named, length, checksum: eight bytes each, little-endian.
const PREFIX: usize = 32;

/// The file of one feed, held by this process alone.
#[derive(Debug)]
pub(super) struct TailFile {
    path: PathBuf,
    file: File,
    full: u64,
    since: u64,
}

#[derive(Debug)]
struct Place {
    generation: u64,
    names: u64,
    body: Vec<u8>,
}

/// What stands in a place.
enum Found {
    Nothing,
    Torn,
    Whole(Place),
}

impl TailFile {
    /// Opens or makes the file of a feed and reads the cuts in it.
    pub(super) fn open(dir: &Path, feed: &Arc<str>) -> Result<(Self, Cuts), LogError> {
        let path = dir.join(file_name(feed));
        let refused = |err: io::Error| LogError::Refused {
            reason: format!("{}: {err}", path.display()),
        };
        let mismatch = |reason: &str, remedy: &str| LogError::Mismatch {
            feed: Arc::clone(feed),
            reason: format!("{} {reason}", path.display()),
            remedy: remedy.to_owned(),
        };
        std::fs::create_dir_all(dir).map_err(refused)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(mismatch(
                    "is in use by another process",
                    "stop that one, or use another --data-dir",
                ));
            }
            Err(TryLockError::Error(err)) => return Err(refused(err)),
        }
        let mut magic = [0; 16];
        let read = read_up_to(&file, &mut magic, 0).map_err(refused)?;
        if read < MAGIC.len() && MAGIC.starts_with(&magic[..read]) {
            // New, or killed before it was begun.
            file.write_all_at(MAGIC, 0).map_err(refused)?;
        } else if magic[..15] == MAGIC[..15] && magic[15] != MAGIC[15] {
            return Err(mismatch(
                "was written by another release",
                "use that release, or move the file away: the next start then opens a new epoch",
            ));
        } else if magic != *MAGIC {
            return Err(mismatch(
                "is not the tail of a log, or damaged",
                "move it away: the next start then opens a new epoch",
            ));
        }
        let mut opened = TailFile {
            path: path.clone(),
            file,
            full: 0,
            since: 0,
        };
        let cuts = opened.read().map_err(refused)?.map_err(|()| {
            mismatch(
                "is damaged",
                "move it away: the next start then opens a new epoch",
            )
        })?;
        Ok((opened, cuts))
    }

    /// Writes what `cuts` has that `before` has not; `before` stays readable until all of it is written.
    pub(super) fn write(&mut self, before: &Cuts, cuts: &Cuts) -> Result<(), LogError> {
        let refused = |path: &Path, err: io::Error| LogError::Refused {
            reason: format!(
                "{}: cannot write the last cut: {err}; free some room, OnAir goes on by itself",
                path.display()
            ),
        };
        let encode = |cut: &CutRecord| convert::cut_to_wire(cut).encode_to_vec();
        let moved = match (&before.full, &cuts.full) {
            (Some(before), Some(full)) => !Arc::ptr_eq(before, full),
            _ => true,
        };
        let full = self.full + u64::from(moved);
        if moved && let Some(cut) = &cuts.full {
            self.put(full % 2, full, 0, &encode(cut))
                .map_err(|err| refused(&self.path, err))?;
        }
        let since = self.since + 1;
        let body = cuts.since.as_ref().map(encode).unwrap_or_default();
        self.put(2 + since % 2, since, full, &body)
            .map_err(|err| refused(&self.path, err))?;
        (self.full, self.since) = (full, since);
        Ok(())
    }

    fn put(&self, place: u64, generation: u64, names: u64, body: &[u8]) -> io::Result<()> {
        if (body.len() + PREFIX) as u64 > PLACE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a cut of {} bytes", body.len()),
            ));
        }
        let mut bytes = Vec::with_capacity(PREFIX + body.len());
        for number in [generation, names, body.len() as u64, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(body);
        let sum = xxh3_64(&bytes).to_le_bytes();
        bytes[PREFIX - 8..PREFIX].copy_from_slice(&sum);
        self.file.write_all_at(&bytes, HEADER + place * PLACE)
    }

    fn get(&self, place: u64) -> io::Result<Found> {
        let at = HEADER + place * PLACE;
        let mut prefix = [0; PREFIX];
        let read = read_up_to(&self.file, &mut prefix, at)?;
        if prefix == [0; PREFIX] {
            return Ok(Found::Nothing);
        }
        let number = |index: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&prefix[index * 8..index * 8 + 8]);
            u64::from_le_bytes(eight)
        };
        let (generation, names, len, sum) = (number(0), number(1), number(2), number(3));
        if read < PREFIX || len > PLACE - PREFIX as u64 {
            return Ok(Found::Torn);
        }
        let mut bytes = prefix.to_vec();
        bytes[PREFIX - 8..].fill(0);
        bytes.resize(PREFIX + len as usize, 0);
        read_up_to(&self.file, &mut bytes[PREFIX..], at + PREFIX as u64)?;
        if xxh3_64(&bytes) != sum {
            return Ok(Found::Torn);
        }
        Ok(Found::Whole(Place {
            generation,
            names,
            body: bytes.split_off(PREFIX),
        }))
    }

    /// The newest cuts that are whole, `Err` when there should be some and are not.
    fn read(&mut self) -> io::Result<Result<Cuts, ()>> {
        let mut fulls = Vec::new();
        let mut sinces = Vec::new();
        let mut torn = 0;
        for place in 0..4 {
            match (self.get(place)?, place < 2) {
                (Found::Nothing, _) => {}
                (Found::Torn, true) => {}
                (Found::Torn, false) => torn += 1,
                (Found::Whole(found), true) => fulls.push(found),
                (Found::Whole(found), false) => sinces.push(found),
            }
        }
        sinces.sort_by_key(|found| std::cmp::Reverse(found.generation));
        for since in &sinces {
            let Some(full) = fulls.iter().find(|full| full.generation == since.names) else {
                continue;
            };
            let cuts = decode(&full.body).and_then(|full| {
                let since = match since.body.is_empty() {
                    true => None,
                    false => Some(decode(&since.body)?),
                };
                Some(Cuts {
                    full: Some(Arc::new(full)),
                    since,
                })
            });
            if let Some(cuts) = cuts {
                (self.full, self.since) = (full.generation, since.generation);
                return Ok(Ok(cuts));
            }
        }
        // The first write of all may have been torn; a second one only after the first was whole.
        let began = !sinces.is_empty() || torn > 1;
        Ok(if began { Err(()) } else { Ok(Cuts::default()) })
    }
}

fn decode(body: &[u8]) -> Option<CutRecord> {
    convert::cut_from_wire(v1::Cut::decode(body).ok()?).ok()
}

/// Reads until `out` is full or the file ends.
fn read_up_to(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < out.len() {
        match file.read_at(&mut out[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(read)
}

/// A feed's file: its name with everything but letters, digits, `_` and `-` written as `%XX`.
fn file_name(feed: &str) -> String {
    let mut name = String::new();
    for byte in feed.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name + ".tail"
}
