//! What to say of SQL that has no place in a predicate.

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};

use crate::column::Column;

use super::PredicateError;
use super::parse::comparison;
use super::source::Source;

/// Whether an expression is a condition, and so no operand.
pub(super) fn is_condition(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryOp { op, .. } => {
            comparison(op).is_some() || matches!(op, BinaryOperator::And | BinaryOperator::Or)
        }
        Expr::UnaryOp { op, .. } => *op == UnaryOperator::Not,
        Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::InList { .. }
        | Expr::Between { .. } => true,
        _ => false,
    }
}

/// What to say of SQL that has no place in a predicate.
pub(super) fn refusal(source: &Source<'_>, expr: &Expr) -> PredicateError {
    let at = source.excerpt(expr);
    let operator = |operator: &dyn ToString, instead| PredicateError::Operator {
        at: at.clone(),
        operator: operator.to_string(),
        instead,
    };
    let pattern = "patterns follow the collation; write = or IN (..), or keep the outcome in a \
                   flag or a STORED generated column";
    match expr {
        Expr::Nested(inner) => refusal(source, inner),
        Expr::CompoundIdentifier(names) => PredicateError::Qualified {
            at,
            column: names
                .last()
                .map_or_else(String::new, |name| name.value.clone()),
        },
        Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. }
        | Expr::InUnnest { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. } => PredicateError::Subquery { at },
        Expr::Function(_)
        | Expr::Cast { .. }
        | Expr::Convert { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Overlay { .. }
        | Expr::Case { .. }
        | Expr::Interval(_)
        | Expr::MatchAgainst { .. }
        | Expr::AtTimeZone { .. } => PredicateError::Function {
            at: source.excerpt_call(expr),
        },
        Expr::Prefixed { prefix, value } => PredicateError::Introducer {
            at: format!("{prefix}{}", source.excerpt(&**value)),
        },
        Expr::Like { .. } | Expr::ILike { .. } => operator(&"LIKE", pattern),
        Expr::RLike { .. } | Expr::SimilarTo { .. } => operator(&"REGEXP", pattern),
        Expr::Collate { .. } => operator(
            &"COLLATE",
            "the column's own collation decides; give it a *_bin collation or add a column with \
             one",
        ),
        Expr::BinaryOp {
            op: op @ BinaryOperator::Xor,
            ..
        } => operator(op, "write (a AND NOT b) OR (b AND NOT a)"),
        Expr::BinaryOp {
            op: op @ (BinaryOperator::Arrow | BinaryOperator::LongArrow),
            ..
        } => operator(
            op,
            "keep the value in a STORED generated column and compare that",
        ),
        Expr::BinaryOp { op, .. } => operator(op, ARITHMETIC),
        Expr::UnaryOp { op, .. } => operator(op, ARITHMETIC),
        _ => PredicateError::Unsupported { at },
    }
}

const ARITHMETIC: &str = "arithmetic depends on sql_mode and rounding; write the result as a literal, \
                          or keep it in a STORED generated column";

/// The column whose name needs the fewest changes, if it is few enough to be a slip.
pub(super) fn similar(name: &str, columns: &[Column]) -> Option<String> {
    let name = name.to_lowercase();
    columns
        .iter()
        .map(|column| (distance(&name, &column.name.to_lowercase()), &column.name))
        .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_string())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (above.min(row[j]) + 1).min(diagonal + usize::from(x != *y));
            diagonal = above;
        }
    }
    row[b.len()]
}
