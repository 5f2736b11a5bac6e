//! The checked predicate: what parse makes, eval walks and print writes.

use crate::value::{DateTime, Decimal};

use super::Truth;
use super::eval::compare_literals;

/// A condition with one of SQL's three outcomes. Columns are named by their table ordinal while parsing, and by
/// their place in [`super::Predicate::columns`] afterwards.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Constant(Truth),
    /// AND.
    All(Box<[Condition]>),
    /// OR.
    Any(Box<[Condition]>),
    Not(Box<Condition>),
    /// `IS TRUE`, `IS FALSE`, `IS NULL` of a condition; never NULL itself.
    Is {
        condition: Box<Condition>,
        truth: Truth,
    },
    /// `column IS NULL`; never NULL itself.
    IsNull {
        column: usize,
    },
    Compare {
        column: usize,
        op: Op,
        literal: Literal,
    },
    /// `column IN (..)`.
    In {
        column: usize,
        list: List,
        /// NULL stood in the list too: what is not found is unknown.
        or_null: bool,
    },
    Columns {
        left: usize,
        op: Op,
        right: usize,
    },
}

/// What stands in a list: ascending by the column's order, no two equal, at least one. Integers have their own form,
/// because lists of them are long and common.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum List {
    Ints(Box<[i64]>),
    UInts(Box<[u64]>),
    Others(Box<[Literal]>),
}

impl List {
    /// `literals` are of one column.
    pub(super) fn new(mut literals: Vec<Literal>) -> List {
        literals.sort_by(compare_literals);
        literals.dedup_by(|a, b| compare_literals(a, b).is_eq());
        let int = |literal: &Literal| match literal {
            Literal::Int(value) => Some(*value),
            _ => None,
        };
        let unsigned = |literal: &Literal| match literal {
            Literal::UInt(value) => Some(*value),
            _ => None,
        };
        if let Some(ints) = literals.iter().map(int).collect() {
            List::Ints(ints)
        } else if let Some(ints) = literals.iter().map(unsigned).collect() {
            List::UInts(ints)
        } else {
            List::Others(literals.into())
        }
    }

    pub(super) fn literals(&self) -> Vec<Literal> {
        match self {
            List::Ints(list) => list.iter().copied().map(Literal::Int).collect(),
            List::UInts(list) => list.iter().copied().map(Literal::UInt).collect(),
            List::Others(list) => list.to_vec(),
        }
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `<=>`: equal, with NULL a value like any other.
    Same,
}

impl Op {
    /// The comparison with its sides exchanged.
    pub(super) fn mirrored(self) -> Op {
        match self {
            Op::Less => Op::Greater,
            Op::LessOrEqual => Op::GreaterOrEqual,
            Op::Greater => Op::Less,
            Op::GreaterOrEqual => Op::LessOrEqual,
            Op::Equal | Op::NotEqual | Op::Same => self,
        }
    }

    pub(super) fn is_ordering(self) -> bool {
        match self {
            Op::Less | Op::LessOrEqual | Op::Greater | Op::GreaterOrEqual => true,
            Op::Equal | Op::NotEqual | Op::Same => false,
        }
    }
}

/// A literal in its column's own form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// Signed integers.
    Int(i64),
    /// Unsigned integers, BIT, YEAR, the index of an ENUM.
    UInt(u64),
    /// FLOAT and DOUBLE; never NaN or infinite.
    Double(f64),
    /// In the column's scale.
    Decimal(Decimal),
    /// DATE, DATETIME, TIMESTAMP.
    DateTime(DateTime),
    /// Microseconds.
    Time(i64),
    /// Text in the column's character set, or binary.
    Bytes { bytes: Box<[u8]>, rule: ByteRule },
}

/// How two byte strings compare when one ends first. The padding itself is cut off the literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteRule {
    /// The shorter is less.
    Exact,
    /// As if followed by spaces (PAD SPACE collations).
    PadSpace,
    /// As if followed by zero bytes (BINARY(n), whose row images leave them out).
    PadZero,
}

impl ByteRule {
    /// `bytes` without the padding.
    pub(super) fn trim(self, bytes: &[u8]) -> &[u8] {
        let pad = match self {
            ByteRule::Exact => return bytes,
            ByteRule::PadSpace => b' ',
            ByteRule::PadZero => 0,
        };
        let end = bytes.iter().rposition(|b| *b != pad).map_or(0, |at| at + 1);
        &bytes[..end]
    }
}

impl Condition {
    /// Calls `f` with every column named, once for each time that it is.
    pub(super) fn for_each_column(&self, f: &mut impl FnMut(usize)) {
        match self {
            Condition::Constant(_) => {}
            Condition::All(list) | Condition::Any(list) => {
                list.iter()
                    .for_each(|condition| condition.for_each_column(f));
            }
            Condition::Not(condition) | Condition::Is { condition, .. } => {
                condition.for_each_column(f);
            }
            Condition::IsNull { column }
            | Condition::Compare { column, .. }
            | Condition::In { column, .. } => f(*column),
            Condition::Columns { left, right, .. } => {
                f(*left);
                f(*right);
            }
        }
    }

    /// The same with every column renamed by `f`.
    pub(super) fn rename(&mut self, f: &impl Fn(usize) -> usize) {
        match self {
            Condition::Constant(_) => {}
            Condition::All(list) | Condition::Any(list) => {
                list.iter_mut().for_each(|condition| condition.rename(f));
            }
            Condition::Not(condition) | Condition::Is { condition, .. } => condition.rename(f),
            Condition::IsNull { column }
            | Condition::Compare { column, .. }
            | Condition::In { column, .. } => *column = f(*column),
            Condition::Columns { left, right, .. } => {
                *left = f(*left);
                *right = f(*right);
            }
        }
    }
}
