//! The predicate as SQL for the scan's WHERE, meaning on the server exactly what [`super::eval`] computes.
//!
//! - Every operator in parentheses, names in backticks: no precedence and no keyword matters.
//! - Text as `_charset X'..'`: a bare hex literal is binary, and a number in a numeric context. With the introducer
//!   no connection character set, no NO_BACKSLASH_ESCAPES and no quote can change it; the form `X''` can be empty,
//!   `0x` cannot. The collation is left to the column, which prevails over a literal's. A COLLATE would be worse:
//!   MariaDB 11.8 loses rows of `a = .. OR a = ..` then, comparing the literals by their own collation.
//! - Binary strings as `_binary X'..'`, all bytes of a BINARY(n). Bare, MySQL 8.0 compares two of them as numbers
//!   once it has put one in the place of a column.
//! - ENUM by index: by label the comparison would go by a collation.
//! - FLOAT and DOUBLE as `(column + 0e0)` and literals with an exponent, which makes both DOUBLE. Of a column
//!   declared FLOAT(M,D) servers compare with a tolerance otherwise, and round the literal to D digits when they
//!   use an index; neither the binlog nor a predicate knows of such a declaration.

use std::fmt::Write;

use crate::column::{Column, ColumnType, IntWidth};
use crate::value::{DateTime, Decimal};

use super::Truth;
use super::literal::decimal_text;
use super::tree::{ByteRule, Condition, Literal, Op};

/// `columns` are those of [`super::Predicate::columns`].
pub(super) fn print(condition: &Condition, columns: &[Column]) -> String {
    let mut printer = Printer {
        columns,
        out: String::new(),
    };
    printer.write(condition);
    printer.out
}

struct Printer<'a> {
    columns: &'a [Column],
    out: String,
}

impl Printer<'_> {
    fn write(&mut self, condition: &Condition) {
        match condition {
            Condition::Constant(truth) => self.out.push_str(keyword(*truth)),
            Condition::All(list) => self.join(list, " AND "),
            Condition::Any(list) => self.join(list, " OR "),
            Condition::Not(inner) => {
                self.out.push_str("(NOT ");
                self.write(inner);
                self.out.push(')');
            }
            Condition::Is { condition, truth } => {
                self.out.push('(');
                self.write(condition);
                let _ = write!(self.out, " IS {})", keyword(*truth));
            }
            Condition::IsNull { column } => {
                let name = quoted(&self.columns[*column].name);
                let _ = write!(self.out, "({name} IS NULL)");
            }
            Condition::Compare {
                column,
                op,
                literal,
            } => {
                let literal = text(literal, &self.columns[*column].ty);
                let test = format!("({} {} {literal})", self.name(*column), op.symbol());
                self.test(*column, &test);
            }
            Condition::In {
                column,
                list,
                or_null,
            } => {
                let test = self.in_list(*column, &list.literals(), *or_null);
                self.test(*column, &test);
            }
            Condition::Columns { left, op, right } => {
                let (left, right) = (self.name(*left), self.name(*right));
                let _ = write!(self.out, "({left} {} {right})", op.symbol());
            }
        }
    }

    fn join(&mut self, list: &[Condition], operator: &str) {
        self.out.push('(');
        for (index, condition) in list.iter().enumerate() {
            if index > 0 {
                self.out.push_str(operator);
            }
            self.write(condition);
        }
        self.out.push(')');
    }

    fn name(&self, column: usize) -> String {
        let Column { name, ty, .. } = &self.columns[column];
        match ty {
            ColumnType::Float | ColumnType::Double => format!("({} + 0e0)", quoted(name)),
            _ => quoted(name),
        }
    }

    fn in_list(&self, column: usize, list: &[Literal], or_null: bool) -> String {
        let name = self.name(column);
        let ty = &self.columns[column].ty;
        let (zero, list) = match list.split_first() {
            Some((first, rest)) if is_zero_date(first) => (Some(text(first, ty)), rest),
            _ => (None, list),
        };
        let mut items: Vec<_> = list.iter().map(|literal| text(literal, ty)).collect();
        items.extend(or_null.then(|| "NULL".to_owned()));
        // A number among strings would make the server compare as something else than dates.
        match (zero, items.join(", ")) {
            (None, items) => format!("({name} IN ({items}))"),
            (Some(zero), items) if items.is_empty() => format!("({name} = {zero})"),
            (Some(zero), items) => format!("(({name} = {zero}) OR ({name} IN ({items})))"),
        }
    }

    /// A test of text is hidden from the optimizer. It would put a literal in the place of the column in another
    /// test, here or in what stands beside us in the WHERE, and compare two literals, by the collation of
    /// literals (seen on MySQL 8.0); and under collations that do not pad it would look for a range in an index
    /// whose entries are padded (seen on all servers).
    fn test(&mut self, column: usize, test: &str) {
        match &self.columns[column].ty {
            ColumnType::Text { collation } if collation.charset() != "binary" => {
                let _ = write!(self.out, "({test} + 0)");
            }
            _ => self.out.push_str(test),
        }
    }
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
                _ => format!("_binary {}", hex(&bytes)),
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
