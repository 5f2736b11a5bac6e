//! The group under way: one GTID's events, from the GTID to what ends them.

use onair_model::Gtid;

use crate::barrier::Barrier;

/// What is known of the transaction under way, beside its rows.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) gtid: Gtid,
    pub(super) commit_time: i64,
    /// Over all its events so far.
    pub(super) fingerprint: crc32fast::Hasher,
    /// Whether it goes on up to a commit; before that, one statement is all of it.
    pub(super) opened: bool,
    /// Whether it changed rows of captured tables.
    pub(super) touched: bool,
    /// Why it ends as a barrier. Rows are no longer looked at then.
    pub(super) broken: Option<Barrier>,
}

impl Group {
    pub(super) fn new(gtid: Gtid, commit_time: i64, opened: bool) -> Self {
        Group {
            gtid,
            commit_time,
            fingerprint: crc32fast::Hasher::new(),
            opened,
            touched: false,
            broken: None,
        }
    }

    /// The first reason is the one that is told.
    pub(super) fn break_off(&mut self, reason: Barrier) {
        self.broken.get_or_insert(reason);
    }

    pub(super) fn add_to_fingerprint(&mut self, kind: u8, body: &[u8]) {
        let mut head = [0; 9];
        head[0] = kind;
        head[1..].copy_from_slice(&(body.len() as u64).to_le_bytes());
        self.fingerprint.update(&head);
        self.fingerprint.update(body);
    }
}
