//! Binding a feed to its table: columns, predicate, field numbers and names.
//!
//! In: the feed's configuration, the table as the source describes it, the numbers given before. Out:
//! [`Feed`] and the numbers to store. Wrong: [`BindError`] with everything that is wrong at once.
//!
//! Field numbers are given to columns in the order of `columns`, each the highest ever given plus one
//! (19000 to 19999 are protobuf's own); a column keeps its number for good, also while it is not exported.
//! A field's name is its column's in lower snake case: `_` before a capital that follows a small letter or a
//! digit, letters made small, every other character than `a-z`, `0-9` and `_` made `_`, `f_` put before a
//! digit; a name that a lower number has already is followed by `_2`, `_3` and so on.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use onair_model::column::{Column, ColumnType};
use onair_model::predicate::{Predicate, PredicateError};
use onair_model::schema::{Field, FieldKind, Schema};

use crate::encode::charset::Charset;
use crate::feed::{Feed, FeedConfig, Table};

/// Field numbers by column name, those of columns that are no longer exported too. Stored with the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNumbers(pub BTreeMap<String, u32>);

/// Why a feed cannot be bound to its table: one line a problem.
#[derive(Debug, thiserror::Error)]
pub struct BindError {
    /// The feed.
    pub feed: Arc<str>,
    /// Everything that is wrong.
    pub problems: Vec<BindProblem>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let newline = if i > 0 { "\n" } else { "" };
            write!(f, "{newline}feed {}: {problem}", self.feed)?;
        }
        Ok(())
    }
}

/// One thing that keeps a feed from being bound.
#[derive(Debug, thiserror::Error)]
pub enum BindProblem {
    /// No primary key: rows cannot be told apart.
    #[error(
        "table {table} has no primary key, so its rows cannot be told apart; add one with ALTER TABLE {table} ADD PRIMARY KEY (..)"
    )]
    NoPrimaryKey {
        /// The table.
        table: String,
    },
    /// The type of a key column cannot be one of a key.
    #[error(
        "primary key column {column} of {table} is {ty}, {reason}; key columns are integers, BIT, YEAR, DECIMAL, dates, times, text, binary, ENUM or SET: choose a table with such a key"
    )]
    KeyType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        ty: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `columns` names one that is not there.
    #[error(
        "columns names {column}, which {table} does not have; it has {present}: correct the name or take it out"
    )]
    UnknownColumn {
        /// The table.
        table: String,
        /// The name.
        column: String,
        /// What there is.
        present: String,
    },
    /// `columns` names one twice.
    #[error("columns names {column} more than once (names do not differ by case): take one out")]
    DuplicateColumn {
        /// The name.
        column: String,
    },
    /// `columns` is empty.
    #[error("columns is empty: name at least one column of {table}, which has {present}")]
    NoColumns {
        /// The table.
        table: String,
        /// What there is.
        present: String,
    },
    /// Text in a character set that cannot be turned into UTF-8.
    #[error(
        "column {column} of {table} is text in {charset}, which OnAir cannot turn into UTF-8 exactly as the server does; convert it with ALTER TABLE {table} MODIFY {column} .. CHARACTER SET utf8mb4, or take it out of columns"
    )]
    Charset {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its character set.
        charset: String,
    },
    /// A type that OnAir only skips.
    #[error(
        "column {column} of {table} is {declared}, a type that OnAir does not read: take it out of columns and live_when"
    )]
    Unreadable {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its declaration.
        declared: String,
    },
    /// `live_when` was refused.
    #[error("live_when: {0}")]
    LiveWhen(#[from] PredicateError),
    /// All field numbers are given away.
    #[error(
        "there is no field number left for column {column}: {count} were given to this feed's columns; make a feed with another name"
    )]
    NoNumberLeft {
        /// The column.
        column: String,
        /// How many are in use.
        count: usize,
    },
}

/// Binds a feed to its table. `numbers` are those that an earlier call returned for this feed, empty at first.
pub fn bind(
    config: &FeedConfig,
    table: &Table,
    numbers: &FieldNumbers,
) -> Result<(Feed, FieldNumbers), BindError> {
    let mut problems = Vec::new();
    check_key(table, &mut problems);
    let chosen = resolve(config, table, &mut problems);
    for &ordinal in &chosen {
        check_readable(table, &table.columns[ordinal], &mut problems);
    }
    let predicate = Predicate::parse(&config.live_when, &table.columns);
    let predicate = predicate.map_err(|error| problems.push(error.into())).ok();
    for &ordinal in predicate.iter().flat_map(Predicate::columns) {
        if !chosen.contains(&ordinal) {
            check_known(table, &table.columns[ordinal], &mut problems);
        }
    }
    let numbers = number(table, &chosen, numbers, &mut problems);
    let live_when = match predicate {
        Some(predicate) if problems.is_empty() => predicate,
        _ => {
            return Err(BindError {
                feed: config.name.clone(),
                problems,
            });
        }
    };
    let fields = fields(table, &chosen, &numbers);
    let feed = Feed {
        schema: Arc::new(Schema {
            feed: config.name.clone(),
            table: table.name.to_string().into(),
            key: key_fields(table),
            columns: fields.iter().map(|(_, field)| field.clone()).collect(),
        }),
        columns: table.columns.clone().into(),
        key: table.primary_key.clone(),
        exported: fields.iter().map(|(ordinal, _)| *ordinal).collect(),
        live_when,
        config: config.clone(),
    };
    Ok((feed, numbers))
}

fn check_key(table: &Table, problems: &mut Vec<BindProblem>) {
    if table.primary_key.is_empty() {
        problems.push(BindProblem::NoPrimaryKey {
            table: table.name.to_string(),
        });
    }
    for &ordinal in &table.primary_key {
        let column = &table.columns[ordinal];
        let reason = match &column.ty {
            ColumnType::Float | ColumnType::Double => "whose values are equal only by accident",
            ColumnType::Json | ColumnType::Vector | ColumnType::Geometry => "which has no order",
            ColumnType::Enum { labels } | ColumnType::Set { labels }
                if labels.iter().any(|label| label.is_empty()) =>
            {
                "whose label '' cannot be told from the invalid value"
            }
            _ => {
                check_readable(table, column, problems);
                continue;
            }
        };
        problems.push(BindProblem::KeyType {
            table: table.name.to_string(),
            column: column.name.to_string(),
            ty: type_name(&column.ty),
            reason,
        });
    }
}

/// Ordinals of the exported columns as configured.
fn resolve(config: &FeedConfig, table: &Table, problems: &mut Vec<BindProblem>) -> Vec<usize> {
    let present = || {
        let names: Vec<&str> = table.columns.iter().map(|c| &*c.name).collect();
        names.join(", ")
    };
    if config.columns.is_empty() {
        problems.push(BindProblem::NoColumns {
            table: table.name.to_string(),
            present: present(),
        });
    }
    let mut chosen = Vec::new();
    for name in &config.columns {
        // Column names do not differ by case in MySQL.
        let found = table
            .columns
            .iter()
            .position(|column| column.name.to_lowercase() == name.to_lowercase());
        match found {
            Some(ordinal) if chosen.contains(&ordinal) => {
                problems.push(BindProblem::DuplicateColumn {
                    column: name.clone(),
                });
            }
            Some(ordinal) => chosen.push(ordinal),
            None => problems.push(BindProblem::UnknownColumn {
                table: table.name.to_string(),
                column: name.clone(),
                present: present(),
            }),
        }
    }
    chosen
}

fn check_readable(table: &Table, column: &Column, problems: &mut Vec<BindProblem>) {
    check_known(table, column, problems);
    if let ColumnType::Text { collation } = &column.ty
        && Charset::named(collation.charset()).is_none()
    {
        problems.push(BindProblem::Charset {
            table: table.name.to_string(),
            column: column.name.to_string(),
            charset: collation.charset().to_owned(),
        });
    }
}

fn check_known(table: &Table, column: &Column, problems: &mut Vec<BindProblem>) {
    if let ColumnType::Other { declared } = &column.ty {
        problems.push(BindProblem::Unreadable {
            table: table.name.to_string(),
            column: column.name.to_string(),
            declared: declared.to_string(),
        });
    }
}

const NUMBER_MAX: u32 = (1 << 29) - 1;
/// Protobuf keeps these for itself.
const NUMBERS_RESERVED: std::ops::RangeInclusive<u32> = 19_000..=19_999;

fn number(
    table: &Table,
    chosen: &[usize],
    given: &FieldNumbers,
    problems: &mut Vec<BindProblem>,
) -> FieldNumbers {
    let mut numbers = given.clone();
    for &ordinal in chosen {
        let name = &*table.columns[ordinal].name;
        if numbers.0.contains_key(name) {
            continue;
        }
        let mut next = numbers.0.values().max().map_or(1, |highest| highest + 1);
        if NUMBERS_RESERVED.contains(&next) {
            next = NUMBERS_RESERVED.end() + 1;
        }
        if next > NUMBER_MAX {
            problems.push(BindProblem::NoNumberLeft {
                column: name.to_owned(),
                count: numbers.0.len(),
            });
            continue;
        }
        numbers.0.insert(name.to_owned(), next);
    }
    numbers
}

/// Exported columns with their fields, ascending by number.
fn fields(table: &Table, chosen: &[usize], numbers: &FieldNumbers) -> Vec<(usize, Field)> {
    let mut by_number: Vec<(u32, &str)> = numbers.0.iter().map(|(n, i)| (*i, &**n)).collect();
    by_number.sort_unstable();
    let mut taken = HashSet::new();
    let mut fields = Vec::new();
    for (number, column) in by_number {
        // Those that are not exported now keep their name, too.
        let name = free_name(column, &mut taken);
        let exported = chosen
            .iter()
            .find(|&&ordinal| &*table.columns[ordinal].name == column);
        if let Some(&ordinal) = exported {
            fields.push((ordinal, field(&table.columns[ordinal], name, number)));
        }
    }
    fields
}

fn key_fields(table: &Table) -> Vec<Field> {
    let mut taken = HashSet::new();
    let key = table.primary_key.iter().map(|&ordinal| {
        let column = &table.columns[ordinal];
        field(column, free_name(&column.name, &mut taken), 0)
    });
    key.collect()
}

fn field(column: &Column, name: String, number: u32) -> Field {
    Field {
        column: column.name.clone(),
        name: name.into(),
        number,
        kind: field_kind(&column.ty),
    }
}

fn free_name(column: &str, taken: &mut HashSet<String>) -> String {
    let plain = snake_case(column);
    let numbered = (2..).map(|n| format!("{plain}_{n}"));
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    let free = names.find(|name| !taken.contains(name));
    let free = free.unwrap_or(plain);
    taken.insert(free.clone());
    free
}

fn snake_case(column: &str) -> String {
    let mut name = String::new();
    let mut after_small = false;
    for c in column.chars() {
        if c.is_ascii_uppercase() && after_small {
            name.push('_');
        }
        after_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        match c.to_ascii_lowercase() {
            legal @ ('a'..='z' | '0'..='9' | '_') => name.push(legal),
            _ => name.push('_'),
        }
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "f_");
    }
    name
}

/// How a column of this type is carried.
pub fn field_kind(ty: &ColumnType) -> FieldKind {
    match ty {
        ColumnType::Int {
            unsigned: false, ..
        } => FieldKind::Int,
        ColumnType::Int { unsigned: true, .. } => FieldKind::UInt,
        ColumnType::Decimal { .. } => FieldKind::Decimal,
        ColumnType::Float => FieldKind::Float,
        ColumnType::Double => FieldKind::Double,
        ColumnType::Bit { .. } => FieldKind::Bit,
        ColumnType::Year => FieldKind::Year,
        ColumnType::Date => FieldKind::Date,
        ColumnType::Time { .. } => FieldKind::Time,
        ColumnType::DateTime { .. } => FieldKind::DateTime,
        ColumnType::Timestamp { .. } => FieldKind::Timestamp,
        ColumnType::Text { .. } => FieldKind::Text,
        ColumnType::FixedBinary { .. } | ColumnType::Binary | ColumnType::Other { .. } => {
            FieldKind::Binary
        }
        ColumnType::Enum { .. } => FieldKind::Enum,
        ColumnType::Set { .. } => FieldKind::Set,
        ColumnType::Json => FieldKind::Json,
        ColumnType::Vector => FieldKind::Vector,
        ColumnType::Geometry => FieldKind::Geometry,
    }
}

fn type_name(ty: &ColumnType) -> &'static str {
    match ty {
        ColumnType::Float => "FLOAT",
        ColumnType::Double => "DOUBLE",
        ColumnType::Json => "JSON",
        ColumnType::Vector => "VECTOR",
        ColumnType::Geometry => "GEOMETRY",
        ColumnType::Enum { .. } => "ENUM",
        ColumnType::Set { .. } => "SET",
        _ => "of another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::Buckets;
    use onair_model::column::{Collation, IntWidth};

    use crate::feed::TableName;

    fn column(name: &str, ty: ColumnType) -> Column {
        Column {
            name: name.into(),
            ty,
            nullable: true,
        }
    }

    fn int() -> ColumnType {
        let (width, unsigned) = (IntWidth::Int, false);
        ColumnType::Int { width, unsigned }
    }

    fn text(collation: &str) -> ColumnType {
        ColumnType::Text {
            collation: Collation::new(collation),
        }
    }

    fn table(columns: Vec<Column>, primary_key: Vec<usize>) -> Table {
        Table {
            name: TableName {
                database: "live".into(),
                table: "room".into(),
            },
            columns,
            primary_key,
        }
    }

    fn config(table: &Table, columns: &[&str]) -> FeedConfig {
        FeedConfig {
            name: "rooms".into(),
            table: table.name.clone(),
            live_when: "id = 1".into(),
            columns: columns.iter().map(|&c| c.to_owned()).collect(),
            buckets: Buckets::new(std::num::NonZeroU16::MIN),
        }
    }

    #[track_caller]
    fn numbered(feed: &Feed) -> Vec<(&str, u32)> {
        let fields = feed.schema.columns.iter();
        fields.map(|f| (&*f.name, f.number)).collect()
    }

    #[test]
    fn numbers_are_given_once() {
        let names = ["id", "LiveTime", "live time", "live_time", "2nd", "Größe"];
        let columns = names.map(|name| column(name, int())).to_vec();
        let table = table(columns, vec![0]);
        let bind = |columns: &[&str], numbers: &FieldNumbers| {
            bind(&config(&table, columns), &table, numbers).expect("binds")
        };
        let (feed, numbers) = bind(&["live time", "LIVETIME", "2nd"], &FieldNumbers::default());
        let first = [("live_time", 1), ("live_time_2", 2), ("f_2nd", 3)];
        assert_eq!(numbered(&feed), first);
        assert_eq!(feed.exported, [2, 1, 4]);
        let (feed, numbers) = bind(&["live_time", "größe", "livetime"], &numbers);
        let second = [("live_time_2", 2), ("live_time_3", 4), ("gr__e", 5)];
        assert_eq!(numbered(&feed), second);
        let (feed, again) = bind(&["2nd"], &numbers);
        assert_eq!((numbered(&feed), again), (vec![("f_2nd", 3)], numbers));
    }

    #[test]
    fn protobufs_own_numbers_are_left_out() {
        let table = table(vec![column("id", int()), column("a", int())], vec![0]);
        let given = FieldNumbers([("gone".to_owned(), 18_999)].into());
        let (feed, _) = bind(&config(&table, &["a"]), &table, &given).expect("binds");
        assert_eq!(numbered(&feed), [("a", 20_000)]);
        let given = FieldNumbers([("gone".to_owned(), NUMBER_MAX)].into());
        let error = bind(&config(&table, &["a"]), &table, &given).expect_err("none left");
        assert!(error.to_string().contains("no field number left"));
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let uuid = ColumnType::Other {
            declared: "uuid".into(),
        };
        let columns = vec![
            column("id", ColumnType::Json),
            column("a", text("swe7_swedish_ci")),
            column("u", uuid),
        ];
        let table = table(columns, vec![0]);
        let config = config(&table, &["a", "A", "b", "u"]);
        let error = bind(&config, &table, &FieldNumbers::default()).expect_err("refused");
        let expected = "\
feed rooms: primary key column id of live.room is JSON, which has no order; key columns are integers, BIT, YEAR, DECIMAL, dates, times, text, binary, ENUM or SET: choose a table with such a key
feed rooms: columns names A more than once (names do not differ by case): take one out
feed rooms: columns names b, which live.room does not have; it has id, a, u: correct the name or take it out
feed rooms: column a of live.room is text in swe7, which OnAir cannot turn into UTF-8 exactly as the server does; convert it with ALTER TABLE live.room MODIFY a .. CHARACTER SET utf8mb4, or take it out of columns
feed rooms: column u of live.room is uuid, a type that OnAir does not read: take it out of columns and live_when
feed rooms: live_when: ";
        let error = error.to_string();
        assert_eq!(&error[..expected.len().min(error.len())], expected);
    }

    #[test]
    fn a_table_needs_a_key_and_a_feed_columns() {
        let table = table(vec![column("id", int())], vec![]);
        let error = bind(&config(&table, &[]), &table, &FieldNumbers::default());
        let expected = "\
feed rooms: table live.room has no primary key, so its rows cannot be told apart; add one with ALTER TABLE live.room ADD PRIMARY KEY (..)
feed rooms: columns is empty: name at least one column of live.room, which has id";
        assert_eq!(error.expect_err("refused").to_string(), expected);
    }
}
