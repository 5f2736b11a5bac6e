//! What a statement in the binlog means for the captured tables.
//!
//! In: statement text, its default database, `sql_mode`. Out: [`Verdict`]. A doubt is never resolved in favour of
//! going on: an epoch that opens needlessly costs a scan, one that does not open costs the truth.
//!
//! A statement whose bytes spell no captured name can only touch a captured table through what it executes; most
//! kinds execute nothing, and are done with there, without allocating. The others are read as tokens, by a grammar of
//! our own: it has to follow two servers through all their versions, executed comments and the servers' own
//! additions, and to know less than a full parser is enough, as long as it knows what it does not know.
//!
//! What cannot be seen here, and is found by the next scan: statements (not rows) on other tables that reach a
//! captured one through a trigger, a view, a stored function or a foreign key.

mod alter;
mod lex;
mod statement;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::lex::{Lexer, Mode, Token};
use self::statement::Reader;
use crate::feed::{Feed, TableName};
use crate::source::RowMetadata;

/// What a statement did to the captured tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
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
    tables: Vec<Captured>,
    metadata: RowMetadata,
}

/// A table that feeds read.
#[derive(Debug)]
struct Captured {
    name: TableName,
    /// Names of all columns that any of them reads: key, predicate, exported.
    columns: Vec<Arc<str>>,
}

impl Classifier {
    /// A classifier for these feeds.
    pub fn new(feeds: &[Arc<Feed>], metadata: RowMetadata) -> Self {
        let mut tables = Vec::<Captured>::new();
        for feed in feeds {
            let ordinals = feed
                .key
                .iter()
                .chain(&feed.exported)
                .chain(feed.live_when.columns());
            let columns = ordinals
                .filter_map(|&ordinal| feed.columns.get(ordinal))
                .map(|column| column.name.clone());
            match tables
                .iter_mut()
                .find(|table| table.name == feed.config.table)
            {
                Some(table) => table.columns.extend(columns),
                None => tables.push(Captured {
                    name: feed.config.table.clone(),
                    columns: columns.collect(),
                }),
            }
        }
        Classifier { tables, metadata }
    }

    /// What the statement means.
    pub fn classify(&self, statement: Statement<'_>) -> Verdict {
        let Ok(text) = std::str::from_utf8(statement.text) else {
            // Where a character ends is not known, so neither where a string does.
            return self.classify_bytes(statement.text);
        };
        let mode = Mode::new(statement.sql_mode.unwrap_or_default(), true);
        let mut lexer = Lexer::new(text, mode);
        let verb = lexer.next();
        if !self.is_spelled(statement.text) && verb.as_ref().is_none_or(touches_only_what_it_names)
        {
            return Verdict::Ignorable;
        }
        let database = String::from_utf8_lossy(statement.database);
        let read = |mode| {
            let mut lexer = Lexer::new(text, mode);
            let tokens: Vec<Token<'_>> = lexer.by_ref().collect();
            let verdict = Reader::new(self, &database, &tokens).read();
            (verdict, lexer.depends_on_version)
        };
        let (executed, depends_on_version) = read(mode);
        if !depends_on_version {
            return executed;
        }
        let (left_out, _) = read(Mode {
            execute: false,
            ..mode
        });
        worse(executed, left_out)
    }

    fn classify_bytes(&self, text: &[u8]) -> Verdict {
        if self.is_spelled(text) {
            return Verdict::Unknown {
                what: "a statement that is not UTF-8 and has the name of a captured table in it"
                    .to_owned(),
            };
        }
        let head = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        match Lexer::new(head, Mode::new(0, true)).next() {
            Some(verb) if touches_only_what_it_names(&verb) => Verdict::Ignorable,
            _ => Verdict::Unknown {
                what: "a statement that is not UTF-8 and may touch any table".to_owned(),
            },
        }
    }

    /// Whether the name of a captured table or database may stand in the text, anywhere.
    fn is_spelled(&self, text: &[u8]) -> bool {
        self.tables.iter().any(|table| {
            may_spell(text, &table.name.table) || may_spell(text, &table.name.database)
        })
    }
}

/// Without allocating. A name with characters that may be written in several ways is taken to be everywhere.
fn may_spell(text: &[u8], name: &str) -> bool {
    let (Some(first), true) = (
        name.bytes().next(),
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'),
    ) else {
        return true;
    };
    let is_first = |byte: &u8| byte.eq_ignore_ascii_case(&first);
    let mut rest = text;
    while let Some(at) = rest.iter().position(is_first) {
        rest = &rest[at..];
        if rest
            .get(..name.len())
            .is_some_and(|here| here.eq_ignore_ascii_case(name.as_bytes()))
        {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Kinds of statements that execute nothing which could reach a table that is not named in them.
fn touches_only_what_it_names(verb: &Token<'_>) -> bool {
    const VERBS: [&str; 16] = [
        "ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE", "INSERT", "REPLACE", "UPDATE", "DELETE",
        "LOAD", "GRANT", "REVOKE", "FLUSH", "OPTIMIZE", "REPAIR", "CHECK",
    ];
    VERBS.iter().any(|known| verb.is_word(known))
}

/// The verdict with which going on is the more wrong.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    let weight = |verdict: &Verdict| match verdict {
        Verdict::Ignorable => 0,
        Verdict::SchemaOnly => 1,
        Verdict::Unknown { .. } => 2,
        Verdict::ContentChanging { .. } => 3,
    };
    if weight(&one) >= weight(&other) {
        one
    } else {
        other
    }
}
