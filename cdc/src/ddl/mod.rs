//! What a statement in the binlog means for the captured tables.
//!
//! In: statement text, its default database, `sql_mode`. Out: [`Ddl`]. A doubt is never resolved in favour of going on.

use std::sync::Arc;

use crate::feed::Feed;

/// What a statement did to the captured tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ddl {
    /// Nothing.
    Ignorable,
    /// Their definition may be another now, their rows are as before: the next table map tells.
    SchemaOnly,
    /// Rows may be others now, and no row event says so.
    ContentChanging {
        /// The statement's kind and the table, for the barrier's reason.
        what: String,
    },
    /// It names a captured table, or may touch one without naming it, and is not understood.
    Unknown {
        /// What is known of it, for the barrier's reason.
        what: String,
    },
}

/// A statement as the binlog has it.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// Its text in the client's character set.
    pub text: &'a [u8],
    /// The default database, empty for none.
    pub database: &'a [u8],
    /// `sql_mode` as bits, if known: quotes and backslashes mean different things.
    pub sql_mode: Option<u64>,
}

/// Classifies statements for a set of feeds.
#[derive(Debug)]
pub struct Classifier {
    feeds: Arc<[Arc<Feed>]>,
}

impl Classifier {
    /// A classifier for these feeds.
    pub fn new(feeds: Arc<[Arc<Feed>]>) -> Self {
        Classifier { feeds }
    }

    /// What the statement means.
    pub fn classify(&self, statement: Statement<'_>) -> Ddl {
        let named = self.feeds.iter().find(|feed| {
            contains(statement.text, feed.config.table.table.as_bytes())
                || contains(statement.text, feed.config.table.database.as_bytes())
        });
        match named {
            None => Ddl::Ignorable,
            Some(feed) => Ddl::Unknown {
                what: format!("a statement that names {}", feed.config.table),
            },
        }
    }
}

fn contains(text: &[u8], name: &[u8]) -> bool {
    text.windows(name.len().max(1))
        .any(|window| window.eq_ignore_ascii_case(name))
}
