//! The text that `mysqlbinlog --verbose --base64-output=DECODE-ROWS --print-table-metadata` and `mariadb-binlog` write,
//! read into transactions.
//!
//! In: that text. Out: for each GTID, in the server's order, the row images and the statements that are not row
//! changes. Wrong: a row image without the metadata of its table, or a line that is neither. Limits of the text itself:
//! a quote or backslash within a string is not told apart from the end and from an escape, so tests write none.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

/// One GTID and what it did, in order.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// As the server writes it: `UUID:N` or `DOMAIN-SERVER-N`.
    pub gtid: String,
    pub effects: Vec<Effect>,
}

#[derive(Clone, Debug)]
pub enum Effect {
    Row(RowChange),
    /// The first line of a statement, as written.
    Statement(String),
}

/// One row before and after; INSERT has no before, DELETE no after.
#[derive(Clone, Debug)]
pub struct RowChange {
    pub table: Arc<TableMap>,
    pub before: Option<Image>,
    pub after: Option<Image>,
}

/// Values by ordinal, as printed.
pub type Image = Vec<Vec<u8>>;

/// A table as its map event describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// `database.table`.
    pub name: String,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub is_unsigned: bool,
}

impl TableMap {
    pub fn ordinal(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }
}

/// Reads the whole text.
pub fn read(mut text: impl BufRead) -> Result<Vec<Transaction>> {
    let mut reader = Reader::default();
    let mut line = Vec::new();
    let mut number = 0;
    while {
        line.clear();
        text.read_until(b'\n', &mut line)? > 0
    } {
        number += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        reader
            .line(line)
            .with_context(|| format!("line {number}: {}", String::from_utf8_lossy(line)))?;
    }
    reader.finish_row()?;
    Ok(reader.transactions)
}

#[derive(Default)]
struct Reader {
    transactions: Vec<Transaction>,
    tables: HashMap<String, Arc<TableMap>>,
    /// Named by a map event whose columns come on the next lines.
    mapped: Option<String>,
    /// Those lines, as far as they have come.
    columns: Option<String>,
    row: Option<Open>,
    /// Between the header of a Query event and the end of its statement.
    in_query: bool,
}

/// A row change whose values are being read.
struct Open {
    table: Arc<TableMap>,
    before: Option<Image>,
    after: Option<Image>,
    is_after: bool,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        if let Some(columns) = &mut self.columns {
            if line.starts_with(b"#     ") {
                columns.push_str(&String::from_utf8_lossy(line));
                return Ok(());
            }
            let map = TableMap {
                name: self.mapped.take().context("columns of no table")?,
                columns: columns_of(columns),
            };
            self.columns = None;
            self.tables.insert(map.name.clone(), Arc::new(map));
        }
        if let Some(rest) = line.strip_prefix(b"### ") {
            return self.row_line(rest);
        }
        self.finish_row()?;
        let line = String::from_utf8_lossy(line);
        if let Some(columns) = line.strip_prefix("# Columns(") {
            self.columns = Some(columns.to_owned());
        } else if let Some((_, rest)) = line.split_once("Table_map: `") {
            let name = rest.split("` mapped to").next().unwrap_or(rest);
            self.mapped = Some(name.replace("`.`", "."));
        } else if let Some(rest) = line.strip_prefix("SET @@SESSION.GTID_NEXT= '") {
            let gtid = rest.split('\'').next().unwrap_or(rest);
            if gtid != "AUTOMATIC" {
                self.begin(gtid);
            }
        } else if line.starts_with('#') {
            self.in_query = line.contains("\tQuery\tthread_id=");
            if let Some((_, rest)) = line.split_once("\tGTID ")
                && let Some(gtid) = rest.split_whitespace().next()
                && gtid.split('-').count() == 3
            {
                self.begin(gtid);
            }
        } else if self.in_query && !is_frame(&line) {
            self.in_query = false;
            if let Some(transaction) = self.transactions.last_mut() {
                let statement = line.trim_end_matches("/*!*/;").to_owned();
                transaction.effects.push(Effect::Statement(statement));
            }
        }
        Ok(())
    }

    fn begin(&mut self, gtid: &str) {
        self.transactions.push(Transaction {
            gtid: gtid.to_owned(),
            effects: Vec::new(),
        });
    }

    fn row_line(&mut self, line: &[u8]) -> Result<()> {
        if let Some(value) = line.strip_prefix(b"  @") {
            let at = value
                .iter()
                .position(|byte| *byte == b'=')
                .context("a value without `=`")?;
            let open = self.row.as_mut().context("a value outside a row")?;
            let image = if open.is_after {
                &mut open.after
            } else {
                &mut open.before
            };
            let image = image.get_or_insert_default();
            let ordinal: usize = std::str::from_utf8(&value[..at])?.parse()?;
            if ordinal != image.len() + 1 {
                bail!("an image that leaves columns out");
            }
            image.push(value[at + 1..].to_vec());
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        match &*text {
            "SET" => self.open()?.is_after = true,
            "WHERE" => self.open()?.is_after = false,
            _ => {
                self.finish_row()?;
                let Some((_, name)) = text.split_once('`') else {
                    bail!("neither a row nor a value");
                };
                let name = name.trim_end_matches('`').replace("`.`", ".");
                let table = self
                    .tables
                    .get(&name)
                    .with_context(|| format!("no column names of {name}"))?;
                self.row = Some(Open {
                    table: Arc::clone(table),
                    before: None,
                    after: None,
                    is_after: false,
                });
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<&mut Open> {
        self.row.as_mut().context("an image outside a row")
    }

    fn finish_row(&mut self) -> Result<()> {
        if let Some(open) = self.row.take() {
            let columns = open.table.columns.len();
            for image in open.before.iter().chain(&open.after) {
                if image.len() != columns {
                    bail!("an image of {} of {columns} columns", image.len());
                }
            }
            let transaction = self
                .transactions
                .last_mut()
                .context("a row before any GTID")?;
            transaction.effects.push(Effect::Row(RowChange {
                table: open.table,
                before: open.before,
                after: open.after,
            }));
        }
        Ok(())
    }
}

/// Lines that frame a statement rather than being one.
fn is_frame(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty()
        || line.starts_with("SET TIMESTAMP")
        || line.starts_with("SET @@")
        || line.starts_with("/*!")
        || line.starts_with("use `")
        || line.starts_with("DELIMITER")
        || line == "BEGIN"
}

/// `` `id` BIGINT UNSIGNED NOT NULL, .. ``
fn columns_of(text: &str) -> Vec<Column> {
    let mut parts = text.split('`').skip(1);
    let mut columns = Vec::new();
    while let (Some(name), Some(kind)) = (parts.next(), parts.next()) {
        columns.push(Column {
            name: name.to_owned(),
            is_unsigned: kind.contains("UNSIGNED"),
        });
    }
    columns
}

/// An integer as printed: `-5 (4294967291)` where the sign bit is set, whatever the column's sign.
pub fn integer(value: &[u8], is_unsigned: bool) -> Result<i128> {
    let text = std::str::from_utf8(value)?;
    let number = match text.split_once(" (") {
        Some((_, unsigned)) if is_unsigned => unsigned.trim_end_matches(')'),
        Some((signed, _)) => signed,
        None => text,
    };
    number
        .parse()
        .with_context(|| format!("`{text}` is no integer"))
}

/// The bytes of a string as printed; `None` for NULL. Control characters come as `\x0a`.
pub fn string(value: &[u8]) -> Option<Vec<u8>> {
    if value == b"NULL" {
        return None;
    }
    let inner = value
        .strip_prefix(b"'")
        .and_then(|rest| rest.strip_suffix(b"'"))
        .unwrap_or(value);
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail
            .strip_prefix(b"x")
            .filter(|_| byte == b'\\')
            .and_then(|tail| tail.first_chunk::<2>())
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match escape {
            Some(escaped) => {
                out.push(escaped);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_both_tools_print_them() {
        assert_eq!(integer(b"-5 (4294967291)", false).unwrap(), -5);
        assert_eq!(integer(b"-5 (4294967291)", true).unwrap(), 4_294_967_291);
        assert_eq!(integer(b"7", true).unwrap(), 7);
        assert_eq!(string(b"'a\\x0ab'").unwrap(), b"a\nb");
        assert_eq!(string(b"NULL"), None);
        assert_eq!(string(b"''").unwrap(), b"");
    }
}
