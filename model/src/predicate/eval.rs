//! Evaluation on one row, three-valued, without allocation: it runs on both images of every row change.

use std::cmp::Ordering;
use std::fmt::Debug;

use crate::value::Value;

use super::Truth;
use super::tree::{ByteRule, Condition, List, Literal, Op};

/// # Panics
/// When a value is not of its column's type, or one is missing: the decoder and the predicate then disagree about
/// the table, and any answer would be a guess.
pub(super) fn eval(condition: &Condition, values: &[Value<'_>]) -> Truth {
    match condition {
        Condition::Constant(truth) => *truth,
        Condition::All(list) => {
            let mut out = Truth::True;
            for condition in list {
                match eval(condition, values) {
                    Truth::False => return Truth::False,
                    Truth::Null => out = Truth::Null,
                    Truth::True => {}
                }
            }
            out
        }
        Condition::Any(list) => {
            let mut out = Truth::False;
            for condition in list {
                match eval(condition, values) {
                    Truth::True => return Truth::True,
                    Truth::Null => out = Truth::Null,
                    Truth::False => {}
                }
            }
            out
        }
        Condition::Not(condition) => !eval(condition, values),
        Condition::Is { condition, truth } => Truth::from(eval(condition, values) == *truth),
        Condition::IsNull { column } => Truth::from(matches!(values[*column], Value::Null)),
        Condition::Compare {
            column,
            op,
            literal,
        } => match (&values[*column], op) {
            (Value::Null, Op::Same) => Truth::False,
            (Value::Null, _) => Truth::Null,
            (value, op) => op.holds(compare(value, literal)),
        },
        Condition::In {
            column,
            list,
            or_null,
        } => match &values[*column] {
            Value::Null => Truth::Null,
            value => match (list.contains(value), or_null) {
                (true, _) => Truth::True,
                (false, true) => Truth::Null,
                (false, false) => Truth::False,
            },
        },
        Condition::Columns { left, op, right } => match (&values[*left], &values[*right], op) {
            (Value::Null, Value::Null, Op::Same) => Truth::True,
            (Value::Null, _, Op::Same) | (_, Value::Null, Op::Same) => Truth::False,
            (Value::Null, _, _) | (_, Value::Null, _) => Truth::Null,
            (left, right, op) => op.holds(compare_values(left, right)),
        },
    }
}

impl Op {
    fn holds(self, order: Ordering) -> Truth {
        Truth::from(match self {
            Op::Equal | Op::Same => order.is_eq(),
            Op::NotEqual => order.is_ne(),
            Op::Less => order.is_lt(),
            Op::LessOrEqual => order.is_le(),
            Op::Greater => order.is_gt(),
            Op::GreaterOrEqual => order.is_ge(),
        })
    }
}

impl List {
    fn contains(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (List::Ints(list), Value::Int(value)) => list.binary_search(value).is_ok(),
            (List::UInts(list), Value::UInt(value)) => list.binary_search(value).is_ok(),
            (List::Others(list), value) => list
                .binary_search_by(|literal| compare(value, literal).reverse())
                .is_ok(),
            (list, value) => mismatch(value, list),
        }
    }
}

/// The column's value against a literal of its type.
#[inline]
fn compare(value: &Value<'_>, literal: &Literal) -> Ordering {
    let order = match (value, literal) {
        (Value::Int(a), Literal::Int(b)) => return a.cmp(b),
        (Value::UInt(a), Literal::UInt(b)) => return a.cmp(b),
        (Value::Bytes(a), Literal::Bytes { bytes, rule }) => return compare_bytes(a, bytes, *rule),
        (Value::DateTime(a), Literal::DateTime(b)) => return a.cmp(b),
        (Value::Time(a), Literal::Time(b)) => return a.cmp(b),
        (Value::Float(a), Literal::Double(b)) => f64::from(*a).partial_cmp(b),
        (Value::Double(a), Literal::Double(b)) => a.partial_cmp(b),
        (Value::Decimal(a), Literal::Decimal(b)) => a.compare(b),
        _ => None,
    };
    order.unwrap_or_else(|| mismatch(value, literal))
}

/// Two columns of one family of types; integers of either sign.
fn compare_values(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::UInt(a), Value::UInt(b)) => a.cmp(b),
        (Value::Int(a), Value::UInt(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::UInt(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::DateTime(a), Value::DateTime(b)) => a.cmp(b),
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        _ => mismatch(left, right),
    }
}

#[cold]
fn mismatch(value: &Value<'_>, other: &dyn Debug) -> ! {
    panic!("the value {value:?} is not of its column's type: it is compared with {other:?}")
}

/// Two literals of one column, for ordering a list.
pub(super) fn compare_literals(left: &Literal, right: &Literal) -> Ordering {
    let value = match left {
        Literal::Int(a) => Value::Int(*a),
        Literal::UInt(a) => Value::UInt(*a),
        Literal::Double(a) => Value::Double(*a),
        Literal::Decimal(a) => Value::Decimal(*a),
        Literal::DateTime(a) => Value::DateTime(*a),
        Literal::Time(a) => Value::Time(*a),
        Literal::Bytes { bytes, .. } => Value::Bytes(bytes),
    };
    compare(&value, right)
}

/// Byte order, which under the collations let through is the collation's order.
fn compare_bytes(value: &[u8], literal: &[u8], rule: ByteRule) -> Ordering {
    match rule {
        ByteRule::Exact => value.cmp(literal),
        // Without their zeros both sides are ordered as with them: zero is the least byte.
        ByteRule::PadZero => rule.trim(value).cmp(literal),
        ByteRule::PadSpace => {
            let common = value.len().min(literal.len());
            let order = value[..common].cmp(&literal[..common]);
            order
                .then_with(|| against_spaces(&value[common..]))
                .then_with(|| against_spaces(&literal[common..]).reverse())
        }
    }
}

/// What is left of the longer string against the spaces that the shorter is padded with.
fn against_spaces(rest: &[u8]) -> Ordering {
    rest.iter()
        .map(|byte| byte.cmp(&b' '))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
