//! The history that the demo keeps: a bounded row of binlog files in memory, each a genuine one.

use std::collections::VecDeque;

use bytes::Bytes;
use onair_model::GtidSet;
use tokio::time::Instant;

use super::event::{self, Events, MAGIC, flag};

/// Into how many files a full history is cut: when it is full, one of them goes.
const FILES: u64 = 8;

/// Transactions in file order, the oldest dropped file by file.
#[derive(Debug)]
pub(super) struct Binlog {
    files: VecDeque<File>,
    /// Number of the newest file.
    newest: u64,
    /// What no file holds any more.
    purged: GtidSet,
    limits: Limits,
    held_bytes: u64,
    held_transactions: u64,
}

/// How much history is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) transactions: u64,
}

/// Why a file was opened.
#[derive(Clone, Copy, Debug)]
enum Opened {
    /// The server started.
    Start,
    /// The one before was full or closed.
    Rotation,
}

/// One file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) number: u64,
    /// FORMAT_DESCRIPTION and PREVIOUS_GTIDS.
    pub(super) head: Bytes,
    pub(super) previous: GtidSet,
    pub(super) transactions: Vec<Logged>,
    /// The ROTATE that closed it; a crash leaves none.
    pub(super) rotate: Option<Bytes>,
    /// Its length so far.
    size: u64,
}

/// One transaction in a file.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) number: u64,
    pub(super) events: Bytes,
    /// When the dump thread may send it.
    pub(super) sent_at: Instant,
}

impl File {
    pub(super) fn name(&self) -> String {
        name(self.number)
    }

    /// The file as it would stand on disk.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(&self.head);
        for logged in &self.transactions {
            out.extend(&logged.events);
        }
        out.extend(self.rotate.iter().flatten());
        out
    }
}

fn name(number: u64) -> String {
    format!("binlog.{number:06}")
}

impl Binlog {
    /// An empty history after the transactions of `purged`.
    pub(super) fn new(limits: Limits, purged: GtidSet, timestamp: u32) -> Self {
        let mut binlog = Binlog {
            files: VecDeque::new(),
            newest: 0,
            purged: purged.clone(),
            limits,
            held_bytes: 0,
            held_transactions: 0,
        };
        binlog.open(purged, timestamp, Opened::Start);
        binlog
    }

    pub(super) fn purged(&self) -> &GtidSet {
        &self.purged
    }

    pub(super) fn files(&self) -> impl DoubleEndedIterator<Item = &File> {
        self.files.iter()
    }

    /// The newest transaction, if one is held.
    pub(super) fn newest(&self) -> Option<&Logged> {
        self.files
            .iter()
            .rev()
            .find_map(|file| file.transactions.last())
    }

    /// A file that is still held.
    pub(super) fn file(&self, number: u64) -> Option<&File> {
        let oldest = self.files.front()?.number;
        let at = number.checked_sub(oldest)?;
        self.files.get(usize::try_from(at).ok()?)
    }

    /// The newest file that begins with nothing but what `from` has.
    pub(super) fn start(&self, from: &GtidSet) -> Option<u64> {
        self.files
            .iter()
            .rev()
            .find(|file| from.contains_set(&file.previous))
            .map(|file| file.number)
    }

    /// Number of the next transaction in the newest file, from 1, and its position there.
    pub(super) fn end(&self) -> (u64, u64) {
        self.files.back().map_or((1, 0), |file| {
            (file.transactions.len() as u64 + 1, file.size)
        })
    }

    /// Appends a transaction whose events were placed at [`Binlog::end`]. Returns how many files were dropped
    /// to make room.
    pub(super) fn append(&mut self, logged: Logged, executed: &GtidSet, timestamp: u32) -> u64 {
        let bytes = logged.events.len() as u64;
        self.held_bytes += bytes;
        self.held_transactions += 1;
        let Some(file) = self.files.back_mut() else {
            return 0;
        };
        file.size += bytes;
        file.transactions.push(logged);
        let full = file.size >= self.limits.bytes / FILES
            || file.transactions.len() as u64 >= self.limits.transactions / FILES;
        if full {
            self.rotate(executed, timestamp);
        }
        self.purge()
    }

    /// Closes the newest file and opens another; `written` is all that stands in the files and before them.
    pub(super) fn rotate(&mut self, written: &GtidSet, timestamp: u32) {
        let next = name(self.newest + 1);
        if let Some(file) = self.files.back_mut() {
            let mut events = Events::new(timestamp);
            event::rotate(&mut events, flag::NONE, &next);
            let bytes = events.at(file.size);
            file.size += bytes.len() as u64;
            file.rotate = Some(bytes.into());
        }
        self.open(written.clone(), timestamp, Opened::Rotation);
    }

    /// Opens another file without closing the newest: what a server does after a crash.
    pub(super) fn open_after_crash(&mut self, written: GtidSet, timestamp: u32) {
        self.open(written, timestamp, Opened::Start);
    }

    fn open(&mut self, written: GtidSet, timestamp: u32, opened: Opened) {
        self.newest += 1;
        let created = match opened {
            Opened::Start => timestamp,
            Opened::Rotation => 0,
        };
        let head = event::file_head(timestamp, created, &written);
        self.files.push_back(File {
            number: self.newest,
            size: (MAGIC.len() + head.len()) as u64,
            head: head.into(),
            previous: written,
            transactions: Vec::new(),
            rotate: None,
        });
    }

    /// Drops the newest `count` transactions, or all that are held; returns how many.
    pub(super) fn lose(&mut self, count: u64) -> u64 {
        let mut lost = 0;
        while lost < count {
            let Some(file) = self.files.back_mut() else {
                break;
            };
            if let Some(logged) = file.transactions.pop() {
                let bytes = logged.events.len() as u64;
                file.size -= bytes;
                self.held_bytes -= bytes;
                self.held_transactions -= 1;
                lost += 1;
            } else if self.files.len() > 1 {
                self.files.pop_back();
                if let Some(file) = self.files.back_mut() {
                    self.newest = file.number;
                    file.size -= file.rotate.take().map_or(0, |rotate| rotate.len() as u64);
                }
            } else {
                break;
            }
        }
        lost
    }

    /// Drops all files but the newest `keep`; returns how many went.
    pub(super) fn purge_to(&mut self, keep: usize) -> u64 {
        let mut dropped = 0;
        while self.files.len() > keep.max(1) {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    fn purge(&mut self) -> u64 {
        let mut dropped = 0;
        while self.files.len() > 1
            && (self.held_bytes > self.limits.bytes
                || self.held_transactions > self.limits.transactions)
        {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    fn drop_oldest(&mut self) {
        if let Some(file) = self.files.pop_front() {
            self.held_transactions -= file.transactions.len() as u64;
            self.held_bytes -= file
                .transactions
                .iter()
                .map(|logged| logged.events.len() as u64)
                .sum::<u64>();
        }
        if let Some(oldest) = self.files.front() {
            self.purged = oldest.previous.clone();
        }
    }
}
