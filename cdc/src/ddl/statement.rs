//! The grammar: from a statement's tokens to its verdict. One function a kind of statement.

use super::lex::Token;
use super::{Captured, Classifier, Verdict, alter};
use crate::source::RowMetadata;

/// Reads the tokens of one statement.
pub(super) struct Reader<'t> {
    classifier: &'t Classifier,
    /// The default database.
    database: &'t str,
    tokens: &'t [Token<'t>],
}

impl<'t> Reader<'t> {
    pub(super) fn new(
        classifier: &'t Classifier,
        database: &'t str,
        tokens: &'t [Token<'t>],
    ) -> Self {
        let tokens = match tokens {
            [tokens @ .., last] if last.is_symbol(';') => tokens,
            _ => tokens,
        };
        Reader {
            classifier,
            database,
            tokens,
        }
    }

    pub(super) fn read(&mut self) -> Verdict {
        // Two statements are never logged as one; if they are, this is not what we think it is.
        if self.tokens.iter().any(|token| token.is_symbol(';')) && !self.defines_a_body() {
            return self.unknown("more than one statement");
        }
        let Some(verb) = self.tokens.first() else {
            return Verdict::Ignorable;
        };
        let Token::Word(verb) = verb else {
            return self.unknown("a statement that does not begin with a word");
        };
        self.tokens = &self.tokens[1..];
        match verb.to_ascii_uppercase().as_str() {
            "ALTER" => self.alter(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "RENAME" => self.rename(),
            "TRUNCATE" => {
                self.accept("TABLE");
                self.target("TRUNCATE")
            }
            "INSERT" | "REPLACE" => self.insert(),
            "UPDATE" => self.update(),
            "DELETE" => self.delete(),
            "LOAD" => self.load(),
            "SET" => self.set(),
            "ANALYZE" | "OPTIMIZE" | "CHECK" | "CHECKSUM" => self.maintain(),
            "REPAIR" => self.repair(),
            "GRANT" | "REVOKE" | "FLUSH" | "SHOW" | "USE" | "KILL" | "RESET" | "PURGE"
            | "CHANGE" | "START" | "STOP" | "INSTALL" | "UNINSTALL" | "SHUTDOWN" | "RESTART"
            | "CLONE" | "BACKUP" | "LOCK" | "UNLOCK" | "DESCRIBE" | "DESC" | "HELP"
            | "DEALLOCATE" | "CACHE" | "SIGNAL" | "RESIGNAL" => Verdict::Ignorable,
            other => self.unknown(&format!("{} statement", short(other))),
        }
    }

    /// CREATE of something with a body of statements, which are not executed now.
    fn defines_a_body(&self) -> bool {
        let defines = |word: &str| {
            self.tokens
                .iter()
                .take(BODY_HEAD_MAX)
                .any(|token| token.is_word(word))
        };
        (defines("CREATE") || defines("ALTER"))
            && ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"]
                .into_iter()
                .any(defines)
    }

    fn alter(&mut self) -> Verdict {
        let mut ignore = false;
        while let Some(word) = self.accept_one(&["ONLINE", "IGNORE"]) {
            ignore |= word == "IGNORE";
        }
        if self.accept("DATABASE") || self.accept("SCHEMA") {
            // UPGRADE DATA DIRECTORY NAME moves tables.
            return match self.has("UPGRADE") {
                true => self.unknown("ALTER DATABASE .. UPGRADE"),
                false => Verdict::Ignorable,
            };
        }
        if !self.accept("TABLE") {
            return self.other_object("ALTER");
        }
        self.accept_all(&["IF", "EXISTS"]);
        let Some(name) = self.name() else {
            return self.unknown("ALTER TABLE of a name that cannot be read");
        };
        if !self.accept("NOWAIT") && self.accept("WAIT") {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        let Some(table) = self.captured(&name) else {
            return if alter::reaches_out(self.tokens, |action| self.mention(action).is_some()) {
                self.unknown("ALTER TABLE of another table")
            } else {
                Verdict::Ignorable
            };
        };
        if self.classifier.metadata == RowMetadata::Minimal {
            return changed("ALTER TABLE with binlog_row_metadata = MINIMAL", table);
        }
        let needed = |column: &str| table.columns.iter().any(|name| same(name, column));
        match alter::content_change(self.tokens, needed) {
            _ if ignore => changed("ALTER IGNORE TABLE", table),
            Some(action) => changed(
                &format!("ALTER TABLE .. {}", short(action).to_uppercase()),
                table,
            ),
            None => Verdict::SchemaOnly,
        }
    }

    fn create(&mut self) -> Verdict {
        let replace = self.accept_all(&["OR", "REPLACE"]);
        if self.accept("TEMPORARY") {
            return Verdict::Ignorable;
        }
        if self.accept("TABLE") {
            let unless_there = self.accept_all(&["IF", "NOT", "EXISTS"]);
            let Some(name) = self.name() else {
                return self.unknown("CREATE TABLE of a name that cannot be read");
            };
            return match self.captured(&name) {
                None => Verdict::Ignorable,
                // It was there, or what removed it was a barrier already.
                Some(_) if unless_there => Verdict::SchemaOnly,
                Some(table) => changed("CREATE TABLE", table),
            };
        }
        if self.accept("DATABASE") || self.accept("SCHEMA") {
            return if replace {
                self.database("CREATE OR REPLACE DATABASE")
            } else {
                Verdict::Ignorable
            };
        }
        if self.index_follows() {
            return self.index("CREATE INDEX");
        }
        self.other_object("CREATE")
    }

    fn drop(&mut self) -> Verdict {
        if self.accept("TEMPORARY") {
            return Verdict::Ignorable;
        }
        if self.accept("TABLE") || self.accept("TABLES") {
            self.accept_all(&["IF", "EXISTS"]);
            return self.target("DROP TABLE");
        }
        if self.accept("DATABASE") || self.accept("SCHEMA") {
            self.accept_all(&["IF", "EXISTS"]);
            return self.database("DROP DATABASE");
        }
        if self.index_follows() {
            return self.index("DROP INDEX");
        }
        self.other_object("DROP")
    }

    /// `[UNIQUE|..] INDEX` is next; it is consumed then.
    fn index_follows(&mut self) -> bool {
        let before = self.tokens;
        while self
            .accept_one(&[
                "ONLINE", "OFFLINE", "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR",
            ])
            .is_some()
        {}
        let found = self.accept("INDEX");
        if !found {
            self.tokens = before;
        }
        found
    }

    /// `[IF [NOT] EXISTS] name [USING ..] ON table`.
    fn index(&mut self, kind: &str) -> Verdict {
        while self.accept_one(&["IF", "NOT", "EXISTS"]).is_some() {}
        let primary = self
            .tokens
            .first()
            .and_then(Token::name)
            .is_some_and(|name| name.eq_ignore_ascii_case("PRIMARY"));
        let table = self.tokens.iter().position(|token| token.is_word("ON"));
        self.tokens = table
            .and_then(|at| self.tokens.get(at + 1..))
            .unwrap_or_default();
        let Some(name) = self.name() else {
            return self.unknown(&format!("{kind} on a name that cannot be read"));
        };
        match self.captured(&name) {
            None => Verdict::Ignorable,
            Some(table) if primary => changed(&format!("{kind} of the primary key"), table),
            Some(table) if self.classifier.metadata == RowMetadata::Minimal => {
                changed(&format!("{kind} with binlog_row_metadata = MINIMAL"), table)
            }
            Some(_) => Verdict::SchemaOnly,
        }
    }

    /// Objects that are not tables. A kind that is unknown matters only when a captured name stands in it.
    fn other_object(&mut self, verb: &str) -> Verdict {
        const OBJECTS: [&str; 22] = [
            "VIEW",
            "TRIGGER",
            "PROCEDURE",
            "FUNCTION",
            "EVENT",
            "USER",
            "ROLE",
            "SERVER",
            "TABLESPACE",
            "LOGFILE",
            "SEQUENCE",
            "PACKAGE",
            "RESOURCE",
            "REFERENCE",
            "INSTANCE",
            "LIBRARY",
            "DEFINER",
            "SQL",
            "ALGORITHM",
            "AGGREGATE",
            "PREPARE",
            "CATALOG",
        ];
        let known = self
            .tokens
            .iter()
            .take(4)
            .any(|token| OBJECTS.iter().any(|word| token.is_word(word)));
        if known || self.mention(self.tokens).is_none() {
            return Verdict::Ignorable;
        }
        let what = self.tokens.first().and_then(Token::name).unwrap_or("?");
        self.unknown(&format!("{verb} {}", short(what)))
    }

    fn rename(&mut self) -> Verdict {
        if self.accept("USER") {
            return Verdict::Ignorable;
        }
        if self.accept("TABLE") || self.accept("TABLES") {
            return self.target("RENAME TABLE");
        }
        self.unknown("RENAME")
    }

    fn insert(&mut self) -> Verdict {
        while self
            .accept_one(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"])
            .is_some()
        {}
        self.written("a statement-format INSERT or REPLACE")
    }

    /// Of one table: `name [[AS] alias] SET`. Of several, any may be the one that is written.
    fn update(&mut self) -> Verdict {
        const KIND: &str = "a statement-format UPDATE";
        while self.accept_one(&["LOW_PRIORITY", "IGNORE"]).is_some() {}
        let all = self.tokens;
        if let Some(name) = self.name() {
            self.accept("AS");
            let alone = self.tokens.iter().take(2).any(|token| token.is_word("SET"));
            if alone {
                return self.written_name(KIND, &name);
            }
        }
        self.tokens = all;
        self.target(KIND)
    }

    /// Of one table: `FROM name`, then nothing more about tables. Otherwise as for UPDATE.
    fn delete(&mut self) -> Verdict {
        const KIND: &str = "a statement-format DELETE";
        const AFTER: [&str; 6] = [
            "WHERE",
            "ORDER",
            "LIMIT",
            "RETURNING",
            "BEFORE",
            "PARTITION",
        ];
        while self
            .accept_one(&["LOW_PRIORITY", "QUICK", "IGNORE", "HISTORY"])
            .is_some()
        {}
        let all = self.tokens;
        if self.accept("FROM")
            && let Some(name) = self.name()
            && self
                .tokens
                .first()
                .is_none_or(|next| AFTER.iter().any(|word| next.is_word(word)))
        {
            return self.written_name(KIND, &name);
        }
        self.tokens = all;
        self.target(KIND)
    }

    fn load(&mut self) -> Verdict {
        let at = self
            .tokens
            .windows(2)
            .position(|two| two[0].is_word("INTO") && two[1].is_word("TABLE"));
        self.tokens = at
            .and_then(|at| self.tokens.get(at + 2..))
            .unwrap_or_default();
        self.written("LOAD DATA")
    }

    /// MariaDB's SET STATEMENT variable = value FOR statement executes that.
    fn set(&mut self) -> Verdict {
        if !self.accept("STATEMENT") {
            return Verdict::Ignorable;
        }
        let Some(at) = self.tokens.iter().position(|token| token.is_word("FOR")) else {
            return self.unknown("SET STATEMENT");
        };
        self.tokens = &self.tokens[at + 1..];
        self.read()
    }

    /// MariaDB's ANALYZE of anything but tables executes it.
    fn maintain(&mut self) -> Verdict {
        while self.accept_one(&["NO_WRITE_TO_BINLOG", "LOCAL"]).is_some() {}
        if self.accept("TABLE") || self.accept("TABLES") {
            return Verdict::Ignorable;
        }
        self.unknown("ANALYZE of something that is not a table")
    }

    /// May drop rows of a table that is broken.
    fn repair(&mut self) -> Verdict {
        while self.accept_one(&["NO_WRITE_TO_BINLOG", "LOCAL"]).is_some() {}
        if self.accept("VIEW") {
            return Verdict::Ignorable;
        }
        self.accept_one(&["TABLE", "TABLES"]);
        self.target("REPAIR TABLE")
    }

    /// A statement in which any captured name, wherever it stands, is changed.
    fn target(&self, kind: &str) -> Verdict {
        match self.mention(self.tokens) {
            Some(table) => changed(kind, table),
            None => Verdict::Ignorable,
        }
    }

    /// A statement that writes to the table whose name is next, and to no other.
    fn written(&mut self, kind: &str) -> Verdict {
        match self.name() {
            Some(name) => self.written_name(kind, &name),
            None => self.unknown(&format!("{kind} of a name that cannot be read")),
        }
    }

    fn written_name(&self, kind: &str, name: &Name<'_>) -> Verdict {
        match self.captured(name) {
            Some(table) => changed(kind, table),
            None => Verdict::Ignorable,
        }
    }

    /// A whole database.
    fn database(&self, kind: &str) -> Verdict {
        let Some(name) = self.tokens.first().and_then(Token::name) else {
            return self.unknown(kind);
        };
        match self
            .classifier
            .tables
            .iter()
            .find(|table| same(&table.name.database, name))
        {
            Some(table) => changed(kind, table),
            None => Verdict::Ignorable,
        }
    }

    fn accept(&mut self, word: &str) -> bool {
        self.accept_all(&[word])
    }

    fn accept_all(&mut self, words: &[&str]) -> bool {
        let found = self.tokens.len() >= words.len()
            && self
                .tokens
                .iter()
                .zip(words)
                .all(|(token, word)| token.is_word(word));
        if found {
            self.tokens = &self.tokens[words.len()..];
        }
        found
    }

    fn accept_one<'w>(&mut self, words: &[&'w str]) -> Option<&'w str> {
        words.iter().copied().find(|word| self.accept(word))
    }

    fn has(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token.is_word(word))
    }

    /// `table` or `database.table`, or MySQL's `.table`.
    fn name(&mut self) -> Option<Name<'t>> {
        let tokens = self.tokens;
        let (name, length) = match tokens {
            [database, dot, table, ..] if dot.is_symbol('.') => (
                Name {
                    database: Some(database.name()?),
                    table: table.name()?,
                },
                3,
            ),
            [dot, table, ..] if dot.is_symbol('.') => (
                Name {
                    database: None,
                    table: table.name()?,
                },
                2,
            ),
            [table, ..] => (
                Name {
                    database: None,
                    table: table.name()?,
                },
                1,
            ),
            [] => return None,
        };
        self.tokens = &tokens[length..];
        Some(name)
    }

    /// The captured table of that name. Without any database to look in, the name alone is enough of a doubt.
    fn captured(&self, name: &Name<'_>) -> Option<&'t Captured> {
        let database = name.database.unwrap_or(self.database);
        self.classifier.tables.iter().find(|table| {
            same(&table.name.table, name.table)
                && (database.is_empty() || same(&table.name.database, database))
        })
    }

    /// The first captured table that any name among the tokens may mean.
    fn mention(&self, tokens: &[Token<'_>]) -> Option<&'t Captured> {
        tokens.iter().enumerate().find_map(|(at, token)| {
            let qualified = at >= 2 && tokens[at - 1].is_symbol('.');
            let database = if qualified {
                tokens[at - 2].name()
            } else {
                None
            };
            self.captured(&Name {
                database,
                table: token.name()?,
            })
        })
    }

    fn unknown(&self, what: &str) -> Verdict {
        Verdict::Unknown {
            what: match self.mention(self.tokens) {
                Some(table) => format!("{what}, not understood, with {} in it", table.name),
                None => format!("{what}, which may touch any table"),
            },
        }
    }
}

/// How far into a statement the kind of what it creates stands: `CREATE DEFINER = 'a'@'b' SQL SECURITY ..`.
const BODY_HEAD_MAX: usize = 16;

/// A table's name as a statement spells it.
#[derive(Clone, Copy)]
struct Name<'t> {
    database: Option<&'t str>,
    table: &'t str,
}

fn changed(kind: &str, table: &Captured) -> Verdict {
    Verdict::ContentChanging {
        what: format!("{kind} of {}", table.name),
    }
}

/// Whether a statement's name may mean the captured one. On some servers it does only when its case is the same, too.
fn same(captured: &str, name: &str) -> bool {
    // Before the name of the table's file, which is the name itself unless it has special characters.
    const FILE: &str = "#mysql50#";
    let name = match name.get(..FILE.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(FILE) => &name[FILE.len()..],
        _ => name,
    };
    captured.eq_ignore_ascii_case(name)
        || (!captured.is_ascii() && captured.to_lowercase() == name.to_lowercase())
}

/// A word of a statement, short enough for a reason.
fn short(word: &str) -> &str {
    word.char_indices()
        .nth(40)
        .map_or(word, |(at, _)| &word[..at])
}
