//! `live_when`: a predicate over one row, from the user's SQL text to a compiled form that is evaluated on
//! binlog values and printed as the scan's WHERE.
//!
//! In: SQL text and the table's columns. Out: [`Predicate`]. Wrong: [`PredicateError`], which says what is
//! not allowed, where, and what to write instead.

use crate::column::Column;
use crate::value::Value;

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

/// A checked and compiled predicate over the columns of one table.
#[derive(Clone, Debug)]
pub struct Predicate {
    columns: Vec<usize>,
}

/// Why a predicate was refused.
#[derive(Debug, thiserror::Error)]
#[error("live_when: {0}")]
pub struct PredicateError(pub String);

impl Predicate {
    /// Parses and checks `sql` against the table's columns (all of them, in table order).
    pub fn parse(_sql: &str, _columns: &[Column]) -> Result<Predicate, PredicateError> {
        Ok(Predicate {
            columns: Vec::new(),
        })
    }

    /// Table ordinals of the columns that the predicate reads, ascending. [`Predicate::eval`] takes their
    /// values in this order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Evaluates on the values of [`Predicate::columns`], in that order.
    pub fn eval(&self, _values: &[Value<'_>]) -> Truth {
        Truth::True
    }

    /// The same predicate as SQL for the scan's WHERE: fully parenthesised, strings as hex literals.
    pub fn to_sql(&self) -> String {
        String::new()
    }
}
