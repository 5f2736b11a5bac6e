//! What a lightweight transaction answers, read by the columns' names: Cassandra gives other columns at each outcome,
//! ScyllaDB always all of them, with nulls where there was no row.

use ::scylla::response::query_result::QueryResult;
use ::scylla::value::{CqlValue, Row};
use bytes::Bytes;

use super::keys;
use crate::{Cell, Token};

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Done.
    Applied,
    /// Not done: there is no such row.
    Absent,
    /// Not done: this stands there.
    Found(Cell),
    /// Not done: something stands there, and the answer does not say all of it.
    Other,
}

/// Reads an answer; `Err` says why it is none.
pub(super) fn answer(result: QueryResult) -> Result<Answer, String> {
    let rows = result.into_rows_result().map_err(|err| err.to_string())?;
    let names: Vec<_> = rows
        .column_specs()
        .iter()
        .map(|spec| spec.name().to_owned())
        .collect();
    let row = rows.single_row::<Row>().map_err(|err| err.to_string())?;
    read(&names, row.columns)
}

fn read(names: &[String], mut values: Vec<Option<CqlValue>>) -> Result<Answer, String> {
    let mut take = |name: &str| {
        let at = names.iter().position(|found| found == name)?;
        values.get_mut(at)?.take()
    };
    match take("[applied]") {
        Some(CqlValue::Boolean(true)) => return Ok(Answer::Applied),
        Some(CqlValue::Boolean(false)) => {}
        other => return Err(format!("[applied] is {other:?}")),
    }
    match (take("attempt"), take("value")) {
        (None, None) => Ok(Answer::Absent),
        (Some(CqlValue::Blob(token)), Some(CqlValue::Blob(value))) => {
            let token = keys::id(&token).ok_or("a token is not 16 bytes")?;
            Ok(Answer::Found(Cell {
                token: Token(token),
                value: Bytes::from(value),
            }))
        }
        _ => Ok(Answer::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_servers_are_read() {
        let check = |columns: &[(&str, Option<CqlValue>)], expected: Option<Answer>| {
            let names: Vec<_> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            let values = columns.iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(read(&names, values).ok(), expected, "{columns:?}");
        };
        let applied = |is| ("[applied]", Some(CqlValue::Boolean(is)));
        let token = || Some(CqlValue::Blob(7u128.to_be_bytes().to_vec()));
        let value = || Some(CqlValue::Blob(b"v".to_vec()));
        let found = Answer::Found(Cell {
            token: Token(7),
            value: Bytes::from_static(b"v"),
        });
        // Cassandra: nothing but the outcome; the outcome alone where there is no row; a condition's columns.
        check(&[applied(true)], Some(Answer::Applied));
        check(&[applied(false)], Some(Answer::Absent));
        check(&[applied(false), ("attempt", token())], Some(Answer::Other));
        let kind = ("kind", Some(CqlValue::Text("head".into())));
        check(
            &[
                applied(false),
                kind.clone(),
                ("attempt", token()),
                ("value", value()),
            ],
            Some(found.clone()),
        );
        // ScyllaDB: all columns always, the old row also when it was applied.
        check(
            &[applied(true), ("attempt", token()), ("value", value())],
            Some(Answer::Applied),
        );
        check(
            &[applied(false), kind, ("attempt", None), ("value", None)],
            Some(Answer::Absent),
        );
        check(
            &[("value", value()), ("attempt", token()), applied(false)],
            Some(found),
        );
        check(&[("attempt", token())], None);
        check(&[("[applied]", None)], None);
    }
}
