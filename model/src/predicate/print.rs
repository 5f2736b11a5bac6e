//! The predicate as SQL for the scan's WHERE, meaning on the server exactly what [`super::eval`] computes.
//!
//! - Every operator in parentheses, names in backticks: no precedence and no keyword matters.
//! - Text as `_charset X'..'`: a bare hex literal is binary, and a number in a numeric context. With the introducer
//!   no connection character set, no NO_BACKSLASH_ESCAPES and no quote can change it; the form `X''` can be empty,
//!   `0x` cannot. The collation is left to the column, which prevails over a literal's: with a COLLATE, MariaDB
//!   11.8 was seen to lose rows of `a = .. OR a = ..` that it found by an index.
//! - Binary strings as `X'..'`, all bytes of a BINARY(n).
//! - ENUM by index: by label the comparison would go by a collation.
//! - FLOAT and DOUBLE with an exponent, which makes the literal a DOUBLE and not a DECIMAL.

use std::fmt::Write;

use crate::column::{Column, ColumnType, IntWidth};
use crate::value::{DateTime, Decimal};

use super::Truth;
use super::literal::decimal_text;
use super::tree::{ByteRule, Condition, Literal, Op};

/// `columns` are those of [`super::Predicate::columns`].
pub(super) fn print(condition: &Condition, columns: &[Column]) -> String {
    let mut out = String::new();
    write(condition, columns, &mut out);
    out
}

fn write(condition: &Condition, columns: &[Column], out: &mut String) {
    let name = |column: &usize| quoted(&columns[*column].name);
    match condition {
        Condition::Constant(truth) => out.push_str(keyword(*truth)),
        Condition::All(list) => join(list, " AND ", columns, out),
        Condition::Any(list) => join(list, " OR ", columns, out),
        Condition::Not(inner) => {
            out.push_str("(NOT ");
            write(inner, columns, out);
            out.push(')');
        }
        Condition::Is { condition, truth } => {
            out.push('(');
            write(condition, columns, out);
            out.push_str(" IS ");
            out.push_str(keyword(*truth));
            out.push(')');
        }
        Condition::IsNull { column } => {
            out.push('(');
            out.push_str(&name(column));
            out.push_str(" IS NULL)");
        }
        Condition::Compare {
            column,
            op,
            literal,
        } => {
            let literal = text(literal, &columns[*column].ty);
            let _ = write!(out, "({} {} {literal})", name(column), op.symbol());
        }
        Condition::In {
            column,
            list,
            or_null,
        } => {
            let ty = &columns[*column].ty;
            let (zero, list) = match list.split_first() {
                Some((first, rest)) if is_zero_date(first) => (Some(first), rest),
                _ => (None, &**list),
            };
            let mut items: Vec<_> = list.iter().map(|literal| text(literal, ty)).collect();
            items.extend(or_null.then(|| "NULL".to_owned()));
            let name = name(column);
            // A number among strings would make the server compare as something else than dates.
            let _ = match (zero.map(|zero| text(zero, ty)), items.join(", ")) {
                (None, items) => write!(out, "({name} IN ({items}))"),
                (Some(zero), items) if items.is_empty() => write!(out, "({name} = {zero})"),
                (Some(zero), items) => write!(out, "(({name} = {zero}) OR ({name} IN ({items})))"),
            };
        }
        Condition::Columns { left, op, right } => {
            let _ = write!(out, "({} {} {})", name(left), op.symbol(), name(right));
        }
    }
}

fn join(list: &[Condition], operator: &str, columns: &[Column], out: &mut String) {
    out.push('(');
    for (index, condition) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(operator);
        }
        write(condition, columns, out);
    }
    out.push(')');
}

fn keyword(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "TRUE",
        Truth::False => "FALSE",
        Truth::Null => "NULL",
    }
}

impl Op {
    fn symbol(self) -> &'static str {
        match self {
            Op::Equal => "=",
            Op::NotEqual => "<>",
            Op::Less => "<",
            Op::LessOrEqual => "<=",
            Op::Greater => ">",
            Op::GreaterOrEqual => ">=",
            Op::Same => "<=>",
        }
    }
}

/// `` `name` ``.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn text(literal: &Literal, ty: &ColumnType) -> String {
    match literal {
        Literal::Int(value) => value.to_string(),
        Literal::UInt(value) => value.to_string(),
        Literal::Double(value) => format!("{value:e}"),
        Literal::Decimal(value) => decimal(value),
        // As a string it is refused under NO_ZERO_DATE.
        Literal::DateTime(_) if is_zero_date(literal) => "0".to_owned(),
        Literal::DateTime(value) => date(value, ty),
        Literal::Time(value) => time(*value, ty),
        Literal::Bytes { bytes, rule } => {
            let mut bytes = bytes.to_vec();
            if let (ByteRule::PadZero, ColumnType::FixedBinary { len }) = (rule, ty) {
                bytes.resize(usize::from(*len), 0);
            }
            match ty {
                ColumnType::Text { collation } if collation.charset() != "binary" => {
                    // `utf8` means utf8mb3 here; some servers are set to read it as utf8mb4.
                    let charset = match collation.charset() {
                        "utf8" => "utf8mb3",
                        charset => charset,
                    };
                    format!("_{charset} {}", hex(&bytes))
                }
                _ => hex(&bytes),
            }
        }
    }
}

fn is_zero_date(literal: &Literal) -> bool {
    matches!(literal, Literal::DateTime(value) if *value == DateTime::ZERO)
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len() + 3);
    out.push_str("X'");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
    out
}

fn decimal(value: &Decimal) -> String {
    let mut limbs = value.magnitude;
    let mut digits = Vec::new();
    while limbs != [0; 4] {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let all = (rest << 64) | u128::from(*limb);
            *limb = (all / 10) as u64;
            rest = all % 10;
        }
        digits.push(char::from(b'0' + rest as u8));
    }
    let digits: String = digits.iter().rev().collect();
    let sign = if value.negative { "-" } else { "" };
    format!("{sign}{}", decimal_text(&digits, usize::from(value.scale)))
}

fn date(value: &DateTime, ty: &ColumnType) -> String {
    let day = format!("{:04}-{:02}-{:02}", value.year, value.month, value.day);
    match ty {
        ColumnType::DateTime { fsp } | ColumnType::Timestamp { fsp } => format!(
            "'{day} {:02}:{:02}:{:02}{}'",
            value.hour,
            value.minute,
            value.second,
            fraction(value.micros, *fsp)
        ),
        _ => format!("'{day}'"),
    }
}

fn time(value: i64, ty: &ColumnType) -> String {
    let fsp = match ty {
        ColumnType::Time { fsp } => *fsp,
        _ => 6,
    };
    let sign = if value < 0 { "-" } else { "" };
    let (seconds, micros) = (value.abs() / 1_000_000, (value.abs() % 1_000_000) as u32);
    format!(
        "'{sign}{:02}:{:02}:{:02}{}'",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        fraction(micros, fsp)
    )
}

/// A point and `fsp` digits, or nothing.
fn fraction(micros: u32, fsp: u8) -> String {
    match fsp {
        0 => String::new(),
        fsp => format!(
            ".{:0width$}",
            micros / 10_u32.pow(6 - u32::from(fsp)),
            width = fsp.into()
        ),
    }
}

/// A column's type for error messages.
pub(super) fn declared(ty: &ColumnType) -> String {
    let with_fsp = |name: &str, fsp: u8| match fsp {
        0 => name.to_owned(),
        fsp => format!("{name}({fsp})"),
    };
    match ty {
        ColumnType::Int { width, unsigned } => {
            let name = match width {
                IntWidth::Tiny => "TINYINT",
                IntWidth::Small => "SMALLINT",
                IntWidth::Medium => "MEDIUMINT",
                IntWidth::Int => "INT",
                IntWidth::Big => "BIGINT",
            };
            format!("{name}{}", if *unsigned { " UNSIGNED" } else { "" })
        }
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Float => "FLOAT".to_owned(),
        ColumnType::Double => "DOUBLE".to_owned(),
        ColumnType::Bit { bits } => format!("BIT({bits})"),
        ColumnType::Year => "YEAR".to_owned(),
        ColumnType::Date => "DATE".to_owned(),
        ColumnType::Time { fsp } => with_fsp("TIME", *fsp),
        ColumnType::DateTime { fsp } => with_fsp("DATETIME", *fsp),
        ColumnType::Timestamp { fsp } => with_fsp("TIMESTAMP", *fsp),
        ColumnType::Text { collation } => format!("text in {}", collation.name()),
        ColumnType::FixedBinary { len } => format!("BINARY({len})"),
        ColumnType::Binary => "VARBINARY or BLOB".to_owned(),
        ColumnType::Enum { .. } => "ENUM".to_owned(),
        ColumnType::Set { .. } => "SET".to_owned(),
        ColumnType::Json => "JSON".to_owned(),
        ColumnType::Vector => "VECTOR".to_owned(),
        ColumnType::Geometry => "GEOMETRY".to_owned(),
        ColumnType::Other { declared } => declared.to_string(),
    }
}
