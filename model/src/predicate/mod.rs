//! `live_when`: a predicate over one row, from the user's SQL text to a compiled form that is evaluated on
//! binlog values and printed as the scan's WHERE.
//!
//! In: SQL text and the table's columns. Out: [`Predicate`]. Wrong: [`PredicateError`], which says what is
//! not allowed, where, and what to write instead.
//!
//! The text is MySQL's in its default mode. What it means on the server, what [`Predicate::to_sql`] means there
//! and what [`Predicate::eval`] computes are the same on MySQL 8.0 and later and MariaDB 10.6 and later; where one
//! of them could differ, the text is refused.

mod bytes;
mod error;
mod eval;
mod lex;
mod literal;
mod parse;
mod print;
mod refusal;
mod source;
mod temporal;
#[cfg(test)]
mod tests;
mod tree;

use crate::column::Column;
use crate::value::Value;

pub use error::{LiteralProblem, PredicateError};
use tree::Condition;

/// SQL's three-valued outcome of evaluating a predicate on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The row is live.
    True,
    /// It is not.
    False,
    /// NULL: it is not, either.
    Null,
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Truth {
        if truth { Truth::True } else { Truth::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Null => Truth::Null,
        }
    }
}

/// A checked and compiled predicate over the columns of one table.
#[derive(Clone, Debug)]
pub struct Predicate {
    ordinals: Vec<usize>,
    columns: Vec<Column>,
    condition: Condition,
}

impl Predicate {
    /// Whether `sql` is one condition, as far as that can be said without the table.
    pub fn check(sql: &str) -> Result<(), PredicateError> {
        parse::check(sql)
    }

    /// Parses and checks `sql` against the table's columns (all of them, in table order).
    pub fn parse(sql: &str, columns: &[Column]) -> Result<Predicate, PredicateError> {
        let mut condition = parse::parse(sql, columns)?;
        let mut ordinals = Vec::new();
        condition.for_each_column(&mut |column| ordinals.push(column));
        ordinals.sort_unstable();
        ordinals.dedup();
        condition.rename(&|column| ordinals.partition_point(|ordinal| *ordinal < column));
        Ok(Predicate {
            columns: ordinals
                .iter()
                .map(|ordinal| columns[*ordinal].clone())
                .collect(),
            ordinals,
            condition,
        })
    }

    /// Table ordinals of the columns that the predicate reads, ascending. [`Predicate::eval`] takes their
    /// values in this order.
    pub fn columns(&self) -> &[usize] {
        &self.ordinals
    }

    /// Evaluates on the values of [`Predicate::columns`], in that order.
    ///
    /// # Panics
    /// When a value is not of its column's type, or one is missing: decoder and predicate then disagree about
    /// the table, and any answer would be a guess.
    pub fn eval(&self, values: &[Value<'_>]) -> Truth {
        eval::eval(&self.condition, values)
    }

    /// The same predicate as SQL for the scan's WHERE: fully parenthesised, strings as hex literals.
    ///
    /// It means the same beside any other condition, and in every sql_mode but PAD_CHAR_TO_FULL_LENGTH. The session
    /// needs `character_set_client = utf8mb4`, for the names of columns, and `time_zone = '+00:00'`, because
    /// TIMESTAMP columns are compared in UTC. Indexes serve it on columns of all types but text, FLOAT and DOUBLE.
    pub fn to_sql(&self) -> String {
        print::print(&self.condition, &self.columns)
    }
}
