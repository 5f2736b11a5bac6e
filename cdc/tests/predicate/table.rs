//! The table of the differential test: made, filled and read back.

use anyhow::{Result, bail};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value as Cell};
use onair_model::column::{Column, ColumnType};
use onair_model::value::{DateTime, Decimal, Value};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::columns;

/// How many of the rows have NULL in a column.
const NULLS: f64 = 0.25;

pub(super) struct Table {
    /// The `id` is the first.
    pub(super) columns: Vec<Spec>,
}

pub(super) struct Spec {
    pub(super) column: Column,
    /// As in CREATE TABLE.
    pub(super) declared: String,
    /// What is asked for in the SELECT.
    pub(super) selected: String,
    /// What stands behind its name in KEY (..); not indexed without.
    pub(super) index: Option<&'static str>,
    /// What rows hold and literals say, as the server reads it from a string.
    pub(super) pool: Vec<Vec<u8>>,
    /// What rows hold and literals cannot say.
    pub(super) unsaid: Vec<Vec<u8>>,
}

impl Table {
    pub(super) fn new(mariadb: bool, rng: &mut StdRng) -> Table {
        Table {
            columns: columns::all(mariadb, rng),
        }
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        self.columns
            .iter()
            .map(|spec| spec.column.clone())
            .collect()
    }

    pub(super) async fn fill(
        &self,
        connection: &mut Conn,
        rows: usize,
        rng: &mut StdRng,
    ) -> Result<()> {
        connection.query_drop("SET SESSION sql_mode = ''").await?;
        connection.query_drop("DROP TABLE IF EXISTS t").await?;
        let mut create = "CREATE TABLE t (PRIMARY KEY (id)".to_owned();
        for spec in &self.columns {
            let Spec {
                column, declared, ..
            } = spec;
            let name = quoted(&column.name);
            let null = if column.nullable { "NULL" } else { "NOT NULL" };
            create += &format!(", {name} {declared} {null}");
            if let Some(part) = spec.index {
                create += &format!(", KEY ({name}{part})");
            }
        }
        connection.query_drop(create + ")").await?;
        let marks = vec!["?"; self.columns.len()].join(", ");
        let insert = format!("INSERT INTO t VALUES ({marks})");
        for id in 0..rows {
            let mut cells = vec![Cell::from(id)];
            cells.extend(self.columns[1..].iter().map(|spec| spec.cell(rng)));
            connection.exec_drop(&insert, cells).await?;
        }
        connection.query_drop("ANALYZE TABLE t").await?;
        connection
            .query_drop("SET SESSION sql_mode = DEFAULT")
            .await?;
        Ok(())
    }

    /// All rows in the order of their ids.
    pub(super) async fn read(&self, connection: &mut Conn) -> Result<Vec<Vec<Stored>>> {
        let columns = self.columns();
        let selected: Vec<_> = self.columns.iter().map(|c| c.selected.clone()).collect();
        let select = format!("SELECT {} FROM t ORDER BY id", selected.join(", "));
        let rows: Vec<Row> = connection.exec(select, ()).await?;
        rows.into_iter()
            .map(|row| {
                let cells = row.unwrap().into_iter().zip(&columns);
                cells
                    .map(|(cell, column)| Stored::new(cell, &column.ty))
                    .collect()
            })
            .collect()
    }
}

impl Spec {
    pub(super) fn is_floating(&self) -> bool {
        matches!(self.column.ty, ColumnType::Float | ColumnType::Double)
    }

    /// Whether the zero date may stand for its NULL.
    pub(super) fn is_date(&self) -> bool {
        matches!(
            self.column.ty,
            ColumnType::Date | ColumnType::DateTime { .. }
        )
    }

    fn cell(&self, rng: &mut StdRng) -> Cell {
        if self.column.nullable && rng.random_bool(NULLS) {
            return Cell::NULL;
        }
        let at = rng.random_range(0..self.pool.len() + self.unsaid.len());
        let text = self
            .pool
            .iter()
            .chain(&self.unsaid)
            .nth(at)
            .cloned()
            .unwrap_or_default();
        match self.column.ty {
            // A BIT is assigned the bits of a string, but the value of a number.
            ColumnType::Bit { .. } => {
                Cell::UInt(String::from_utf8_lossy(&text).parse().unwrap_or_default())
            }
            _ => Cell::Bytes(text),
        }
    }
}

/// A value as the server gave it, owned.
#[derive(Debug)]
pub(super) enum Stored {
    Plain(Value<'static>),
    Bytes(Vec<u8>),
    /// BINARY(n): the row image leaves out zero bytes at the end, the protocol does not.
    Padded(Vec<u8>),
}

impl Stored {
    fn new(cell: Cell, ty: &ColumnType) -> Result<Stored> {
        Ok(Stored::Plain(match (cell, ty) {
            (Cell::NULL, _) => Value::Null,
            (
                Cell::Int(v),
                ColumnType::Int {
                    unsigned: false, ..
                },
            ) => Value::Int(v),
            (Cell::Int(v), ColumnType::Int { .. } | ColumnType::Year | ColumnType::Enum { .. }) => {
                Value::UInt(v.try_into()?)
            }
            (Cell::UInt(v), ColumnType::Int { .. } | ColumnType::Year) => Value::UInt(v),
            (Cell::Double(v), ColumnType::Enum { .. }) => Value::UInt(v as u64),
            (Cell::Float(v), ColumnType::Float) => Value::Float(v),
            (Cell::Double(v), ColumnType::Double) => Value::Double(v),
            (Cell::Bytes(v), ColumnType::Decimal { scale, .. }) => {
                Value::Decimal(decimal(std::str::from_utf8(&v)?, *scale))
            }
            (Cell::Bytes(v), ColumnType::Bit { .. }) => {
                Value::UInt(v.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
            }
            (Cell::Date(year, month, day, hour, minute, second, micros), _) => {
                Value::DateTime(DateTime {
                    year,
                    month,
                    day,
                    hour,
                    minute,
                    second,
                    micros,
                })
            }
            (Cell::Time(negative, days, hours, minutes, seconds, micros), _) => {
                let hours = i64::from(days) * 24 + i64::from(hours);
                let seconds = (hours * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
                let time = seconds * 1_000_000 + i64::from(micros);
                Value::Time(if negative { -time } else { time })
            }
            (Cell::Bytes(v), ColumnType::FixedBinary { .. }) => return Ok(Stored::Padded(v)),
            (Cell::Bytes(v), _) => return Ok(Stored::Bytes(v)),
            (cell, ty) => bail!("{cell:?} for {ty:?}"),
        }))
    }

    /// As the protocol gives it.
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Stored::Plain(value) => *value,
            Stored::Bytes(bytes) | Stored::Padded(bytes) => Value::Bytes(bytes),
        }
    }

    /// As a row image gives it.
    pub(super) fn image(&self) -> Value<'_> {
        match self {
            Stored::Padded(bytes) => {
                let end = bytes
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                Value::Bytes(&bytes[..end])
            }
            other => other.value(),
        }
    }
}

fn decimal(text: &str, scale: u8) -> Decimal {
    let mut magnitude = [0_u64; 4];
    for digit in text.bytes().filter(u8::is_ascii_digit) {
        let mut carry = u128::from(digit - b'0');
        for limb in &mut magnitude {
            carry += u128::from(*limb) * 10;
            *limb = carry as u64;
            carry >>= 64;
        }
    }
    let negative = text.starts_with('-') && magnitude != [0; 4];
    Decimal {
        negative,
        magnitude,
        scale,
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
