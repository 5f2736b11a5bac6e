//! Row images to net key changes: a plan compiled per table map that skips what is not needed.
//!
//! In: bodies of table map and rows events. Out: [`Net`], what the transaction did to each key of each feed.
//! Wrong: [`DecodeError`].

use std::sync::Arc;

use crate::change::KeyChange;
use crate::feed::Feed;

/// Decodes the rows events of one stream for a set of feeds.
#[derive(Debug)]
pub struct Decoder {
    feeds: Arc<[Arc<Feed>]>,
}

/// The net effect of the transaction under way on each key of each feed.
#[derive(Debug, Default)]
pub struct Net {
    bytes: usize,
}

/// Why an event could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is sound, but does not tell the content of a captured table: the epoch must end.
    #[error("{0}")]
    Barrier(String),
    /// It does not follow the format.
    #[error("damaged event: {0}")]
    Damaged(String),
}

impl Decoder {
    /// A decoder for these feeds; their index here is the index in [`Net::take`].
    pub fn new(feeds: Arc<[Arc<Feed>]>) -> Self {
        Decoder { feeds }
    }

    /// The feeds that it decodes for.
    pub fn feeds(&self) -> &Arc<[Arc<Feed>]> {
        &self.feeds
    }

    /// Takes a TABLE_MAP body (event kind 19). Cheap when the same bytes came before under the same id.
    pub fn table_map(&mut self, _body: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }

    /// Takes a rows body: kinds 23-25 (v1), 30-32 (v2), 39 (partial JSON update).
    pub fn rows(&mut self, _kind: u8, _body: &[u8], _net: &mut Net) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Net {
    /// Memory held, in bytes, for the transaction's bound.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends the transaction: net changes by feed index, ascending, unchanged keys and feeds left out; empty again after.
    pub fn take(&mut self) -> Vec<(usize, Vec<KeyChange>)> {
        Vec::new()
    }

    /// Forgets the transaction under way (rolled back, or a savepoint's tail is never sent).
    pub fn clear(&mut self) {
        self.bytes = 0;
    }
}
