//! SQL text to a checked [`Condition`].
//!
//! sqlparser gives the grammar. Where its precedences differ from MySQL's (IN and BETWEEN beside `=`, XOR, `&&`),
//! the shapes in which that shows are refused: a comparison takes a column and literals, never a condition.

use sqlparser::ast::{BinaryOperator, DataType, Expr, Ident, UnaryOperator, Value};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

use crate::column::{Column, ColumnType};

use super::literal::{self, Number, Written};
use super::print::declared;
use super::refusal::{is_condition, refusal, similar};
use super::source::{Source, shorten};
use super::tree::{Condition, List, Literal, Op};
use super::{LiteralProblem, PredicateError, Truth, bytes};

/// Levels of sqlparser's recursion; about two go to a pair of parentheses. Its frames take some kilobytes each.
const MAX_RECURSION: usize = 50;

/// Bare words that MySQL evaluates as functions. sqlparser knows some of them itself.
const BARE_FUNCTIONS: [&str; 12] = [
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "ROWNUM",
    "SYSDATE",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
];

/// Columns in the result are table ordinals.
pub(super) fn parse(text: &str, columns: &[Column]) -> Result<Condition, PredicateError> {
    let source = Source::read(text)?;
    let tree = grammar(&source)?;
    let checker = Checker {
        source: &source,
        columns,
    };
    checker.condition(&tree)
}

/// What can be said of a text without its table.
pub(super) fn check(text: &str) -> Result<(), PredicateError> {
    grammar(&Source::read(text)?).map(drop)
}

fn grammar(source: &Source<'_>) -> Result<Expr, PredicateError> {
    let mut parser = Parser::new(&MySqlDialect {})
        .with_recursion_limit(MAX_RECURSION)
        .with_tokens_with_locations(source.tokens());
    let tree = parser.parse_expr().map_err(|err| syntax(source, err))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(PredicateError::Syntax {
            at: format!("`{}`", source.rest(next.span.start)),
            detail: "the condition ends before it".to_owned(),
        });
    }
    Ok(tree)
}

fn syntax(source: &Source<'_>, err: ParserError) -> PredicateError {
    let message = match err {
        ParserError::RecursionLimitExceeded => return PredicateError::TooDeep,
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    // The place is ours: tokens carry it as their column. The end has none.
    let (detail, place) = message
        .split_once(" at Line: 1, Column: ")
        .unwrap_or((&message, ""));
    PredicateError::Syntax {
        at: match place.parse() {
            Ok(column) => format!("`{}`", source.rest(Location { line: 1, column })),
            Err(_) => "its end".to_owned(),
        },
        detail: shorten(detail),
    }
}

struct Checker<'a> {
    source: &'a Source<'a>,
    columns: &'a [Column],
}

/// A side of a comparison.
enum Operand<'e> {
    Column(usize),
    /// With its place, for errors.
    Literal(Written, &'e Expr),
}

impl Checker<'_> {
    fn condition(&self, expr: &Expr) -> Result<Condition, PredicateError> {
        match expr {
            Expr::Nested(inner) => self.condition(inner),
            Expr::BinaryOp {
                op: BinaryOperator::And,
                ..
            } => Ok(Condition::All(self.chain(expr, &BinaryOperator::And)?)),
            Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => Ok(Condition::Any(self.chain(expr, &BinaryOperator::Or)?)),
            Expr::BinaryOp { left, op, right } => match comparison(op) {
                Some(op) => self.comparison(expr, left, op, right),
                None => Err(refusal(self.source, expr)),
            },
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => Ok(Condition::Not(Box::new(self.condition(expr)?))),
            Expr::IsTrue(inner) => self.is(inner, Truth::True),
            Expr::IsNotTrue(inner) => Ok(not(self.is(inner, Truth::True)?)),
            Expr::IsFalse(inner) => self.is(inner, Truth::False),
            Expr::IsNotFalse(inner) => Ok(not(self.is(inner, Truth::False)?)),
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => self.is_null(inner),
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => Ok(not(self.is_null(inner)?)),
            Expr::InList {
                expr: operand,
                list,
                negated,
            } => {
                let found = self.in_list(expr, operand, list)?;
                Ok(if *negated { not(found) } else { found })
            }
            Expr::Between {
                expr: operand,
                negated,
                low,
                high,
            } => {
                let within = self.between(expr, operand, low, high)?;
                Ok(if *negated { not(within) } else { within })
            }
            Expr::Identifier(name) => self.bare_column(name),
            Expr::Value(value) => match &value.value {
                Value::Boolean(truth) => Ok(Condition::Constant(Truth::from(*truth))),
                Value::Null => Ok(Condition::Constant(Truth::Null)),
                _ => Err(PredicateError::NotACondition {
                    at: self.source.excerpt(expr),
                    instead: "write TRUE or FALSE, or compare a column with it".to_owned(),
                }),
            },
            _ => Err(refusal(self.source, expr)),
        }
    }

    /// The operands of a chain of one operator, without recursion along it.
    fn chain(
        &self,
        expr: &Expr,
        operator: &BinaryOperator,
    ) -> Result<Box<[Condition]>, PredicateError> {
        let mut operands = Vec::new();
        let mut rest = expr;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == operator
        {
            operands.push(&**right);
            rest = left;
        }
        operands.push(rest);
        operands
            .iter()
            .rev()
            .map(|operand| self.condition(operand))
            .collect()
    }

    fn is(&self, expr: &Expr, truth: Truth) -> Result<Condition, PredicateError> {
        Ok(Condition::Is {
            condition: Box::new(self.condition(expr)?),
            truth,
        })
    }

    fn is_null(&self, expr: &Expr) -> Result<Condition, PredicateError> {
        match strip(expr) {
            Expr::Identifier(name) => self.null_test(self.column(name)?),
            _ => self.is(expr, Truth::Null),
        }
    }

    /// Not asked of the server for NOT NULL columns: it has rules of its own for them (zero dates, and
    /// `sql_auto_is_null`).
    fn null_test(&self, column: usize) -> Result<Condition, PredicateError> {
        let Column { name, ty, nullable } = &self.columns[column];
        if *nullable {
            return Ok(Condition::IsNull { column });
        }
        // An old rule for ODBC: in a WHERE the server takes IS NULL, and NOT .. IS NOT NULL, for the zero date.
        if matches!(ty, ColumnType::Date | ColumnType::DateTime { .. }) {
            return Err(PredicateError::ZeroDateIsNull {
                column: name.to_string(),
            });
        }
        Ok(Condition::Constant(Truth::False))
    }

    fn bare_column(&self, name: &Ident) -> Result<Condition, PredicateError> {
        let column = self.column(name)?;
        let zero = match &self.columns[column].ty {
            ColumnType::Int {
                unsigned: false, ..
            } => Literal::Int(0),
            ColumnType::Int { unsigned: true, .. } | ColumnType::Bit { .. } => Literal::UInt(0),
            ty => {
                return Err(PredicateError::NotACondition {
                    at: name.value.clone(),
                    instead: format!("the column is {}; compare it with a literal", declared(ty)),
                });
            }
        };
        Ok(Condition::Compare {
            column,
            op: Op::NotEqual,
            literal: zero,
        })
    }

    fn comparison(
        &self,
        expr: &Expr,
        left: &Expr,
        op: Op,
        right: &Expr,
    ) -> Result<Condition, PredicateError> {
        match (self.operand(expr, left)?, self.operand(expr, right)?) {
            (Operand::Column(column), Operand::Literal(written, at)) => {
                self.compare(column, op, &written, at)
            }
            (Operand::Literal(written, at), Operand::Column(column)) => {
                self.compare(column, op.mirrored(), &written, at)
            }
            (Operand::Column(left), Operand::Column(right)) => self.columns(left, op, right),
            (Operand::Literal(..), Operand::Literal(..)) => Err(PredicateError::Operands {
                at: self.source.excerpt(expr),
            }),
        }
    }

    fn compare(
        &self,
        column: usize,
        op: Op,
        written: &Written,
        at: &Expr,
    ) -> Result<Condition, PredicateError> {
        self.comparable(column, op)?;
        if *written == Written::Null {
            return Ok(match op {
                Op::Same => self.null_test(column)?,
                _ => Condition::Constant(Truth::Null),
            });
        }
        let Column { name, ty, .. } = &self.columns[column];
        if op == Op::Same && matches!(written, Written::Hex(_)) {
            return Err(PredicateError::Literal {
                literal: self.source.excerpt(at),
                column: name.to_string(),
                declared: declared(ty),
                problem: LiteralProblem::HexSame,
            });
        }
        Ok(Condition::Compare {
            column,
            op,
            literal: self.literal(column, written, at)?,
        })
    }

    fn columns(&self, left: usize, op: Op, right: usize) -> Result<Condition, PredicateError> {
        let (one, other) = (&self.columns[left], &self.columns[right]);
        let exact = matches!(
            (&one.ty, &other.ty),
            (ColumnType::Int { .. }, ColumnType::Int { .. })
                | (ColumnType::Date, ColumnType::Date)
                | (ColumnType::DateTime { .. }, ColumnType::DateTime { .. })
                | (ColumnType::Timestamp { .. }, ColumnType::Timestamp { .. })
                | (ColumnType::Time { .. }, ColumnType::Time { .. })
        );
        if exact {
            return Ok(Condition::Columns { left, op, right });
        }
        Err(PredicateError::ColumnPair {
            left: one.name.to_string(),
            left_type: declared(&one.ty),
            right: other.name.to_string(),
            right_type: declared(&other.ty),
        })
    }

    fn in_list(
        &self,
        expr: &Expr,
        operand: &Expr,
        items: &[Expr],
    ) -> Result<Condition, PredicateError> {
        let Operand::Column(column) = self.operand(expr, operand)? else {
            return Err(PredicateError::Operands {
                at: self.source.excerpt(expr),
            });
        };
        self.comparable(column, Op::Equal)?;
        let mut list = Vec::with_capacity(items.len());
        let mut or_null = false;
        for item in items {
            match self.operand(expr, item)? {
                Operand::Literal(Written::Null, _) => or_null = true,
                Operand::Literal(written, at) => list.push(self.literal(column, &written, at)?),
                Operand::Column(_) => {
                    return Err(PredicateError::Operands {
                        at: self.source.excerpt(expr),
                    });
                }
            }
        }
        // MySQL 8.0 finds nothing in such a list of times.
        if or_null && matches!(self.columns[column].ty, ColumnType::Time { .. }) {
            return Err(PredicateError::NullOperand {
                at: self.source.excerpt(expr),
            });
        }
        if list.is_empty() {
            return Ok(Condition::Constant(Truth::Null));
        }
        Ok(Condition::In {
            column,
            list: List::new(list),
            or_null,
        })
    }

    /// `a BETWEEN x AND y` is `a >= x AND a <= y`, in three values too.
    fn between(
        &self,
        expr: &Expr,
        operand: &Expr,
        low: &Expr,
        high: &Expr,
    ) -> Result<Condition, PredicateError> {
        let operands = (
            self.operand(expr, operand)?,
            self.operand(expr, low)?,
            self.operand(expr, high)?,
        );
        let (Operand::Column(column), Operand::Literal(low, from), Operand::Literal(high, to)) =
            operands
        else {
            return Err(PredicateError::Operands {
                at: self.source.excerpt(expr),
            });
        };
        // By type and version the server gives NULL where `a >= NULL AND a <= 1` is FALSE.
        if low == Written::Null || high == Written::Null {
            return Err(PredicateError::NullOperand {
                at: self.source.excerpt(expr),
            });
        }
        Ok(Condition::All(Box::new([
            self.compare(column, Op::GreaterOrEqual, &low, from)?,
            self.compare(column, Op::LessOrEqual, &high, to)?,
        ])))
    }

    fn operand<'e>(&self, comparison: &Expr, at: &'e Expr) -> Result<Operand<'e>, PredicateError> {
        let expr = strip(at);
        let written = match expr {
            Expr::Identifier(name) => return Ok(Operand::Column(self.column(name)?)),
            Expr::Value(value) => self.written(&value.value, false),
            Expr::UnaryOp {
                op: op @ (UnaryOperator::Minus | UnaryOperator::Plus),
                expr: number,
            } => match strip(number) {
                Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                    self.written(&value.value, *op == UnaryOperator::Minus)
                }
                _ => None,
            },
            Expr::TypedString(typed) => match (&typed.data_type, &typed.value.value) {
                (DataType::Date, Value::SingleQuotedString(text)) => {
                    Some(Written::Date(text.clone()))
                }
                // MySQL 8.0 finds nothing in a list of two of them.
                (DataType::Time(..), _) => {
                    return Err(PredicateError::TypedTime {
                        at: format!("TIME {}", self.source.excerpt(expr)),
                    });
                }
                (DataType::Timestamp(None, _), Value::SingleQuotedString(text)) => {
                    Some(Written::Timestamp(text.clone()))
                }
                _ => None,
            },
            _ => None,
        };
        match written {
            Some(written) => Ok(Operand::Literal(written, at)),
            None if is_condition(expr) => Err(PredicateError::Operands {
                at: self.source.excerpt(comparison),
            }),
            None => Err(refusal(self.source, expr)),
        }
    }

    fn written(&self, value: &Value, negative: bool) -> Option<Written> {
        Some(match value {
            Value::Null => Written::Null,
            Value::Boolean(truth) => Written::Boolean(*truth),
            Value::Number(text, false) => Written::Number(Number {
                negative,
                text: text.clone(),
            }),
            Value::SingleQuotedString(text) => Written::Text(text.clone()),
            Value::HexStringLiteral(digits) => Written::Hex(digits.clone()),
            Value::SingleQuotedByteStringLiteral(digits) => Written::Bits(digits.clone()),
            _ => return None,
        })
    }

    fn literal(
        &self,
        column: usize,
        written: &Written,
        at: &Expr,
    ) -> Result<Literal, PredicateError> {
        let Column { name, ty, .. } = &self.columns[column];
        literal::convert(written, ty).map_err(|problem| PredicateError::Literal {
            literal: self.source.excerpt(at),
            column: name.to_string(),
            declared: declared(ty),
            problem,
        })
    }

    /// Whether a column's values compare with literals here exactly as on the server.
    fn comparable(&self, column: usize, op: Op) -> Result<(), PredicateError> {
        let Column { name, ty, .. } = &self.columns[column];
        let column = name.to_string();
        match ty {
            ColumnType::Text { collation } if !collation.is_binary() => {
                Err(PredicateError::Collation {
                    column,
                    collation: collation.name().to_owned(),
                })
            }
            ColumnType::Text { collation }
                if !is_printable(collation.name(), collation.charset()) =>
            {
                Err(PredicateError::Charset {
                    column,
                    collation: collation.name().to_owned(),
                })
            }
            ColumnType::Enum { .. } if op.is_ordering() => {
                Err(PredicateError::EnumOrder { column })
            }
            ColumnType::Set { .. }
            | ColumnType::Json
            | ColumnType::Vector
            | ColumnType::Geometry => Err(PredicateError::Type {
                column,
                declared: declared(ty),
            }),
            _ => Ok(()),
        }
    }

    /// Column names do not tell case apart. Beyond ASCII they must be written as declared.
    fn column(&self, name: &Ident) -> Result<usize, PredicateError> {
        let bare = name.quote_style.is_none();
        if bare
            && BARE_FUNCTIONS
                .iter()
                .any(|f| name.value.eq_ignore_ascii_case(f))
        {
            return Err(PredicateError::Function {
                at: name.value.clone(),
            });
        }
        let exact = self.columns.iter().position(|c| *c.name == *name.value);
        let folded = || {
            self.columns
                .iter()
                .position(|c| c.name.eq_ignore_ascii_case(&name.value))
        };
        exact
            .or_else(folded)
            .ok_or_else(|| PredicateError::UnknownColumn {
                name: shorten(&name.value),
                similar: similar(&name.value, self.columns),
            })
    }
}

pub(super) fn comparison(op: &BinaryOperator) -> Option<Op> {
    Some(match op {
        BinaryOperator::Eq => Op::Equal,
        BinaryOperator::NotEq => Op::NotEqual,
        BinaryOperator::Lt => Op::Less,
        BinaryOperator::LtEq => Op::LessOrEqual,
        BinaryOperator::Gt => Op::Greater,
        BinaryOperator::GtEq => Op::GreaterOrEqual,
        BinaryOperator::Spaceship => Op::Same,
        _ => return None,
    })
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn strip(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// Whether literals can be written in a character set, and its names without quotes.
fn is_printable(collation: &str, charset: &str) -> bool {
    let plain = collation
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    charset == "binary" || (plain && bytes::is_encodable(charset))
}
