//! Every type with hostile values, exported whole: row images of INSERT, UPDATE and DELETE and the scan give
//! what SELECT prints.

mod columns;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, Row, Value as Sent};
use onair_cdc::change::KeyChange;
use onair_cdc::encode::Encoder;
use onair_cdc::feed::Feed;
use onair_cdc::source::{Gate, RowSink, ScanRequest, Source as _};
use onair_model::key::KeyReader;
use onair_model::schema::FieldKind;
use onair_xtask::servers::Server;

use crate::damage::damaged_events_are_errors;
use crate::follow::{Follower, dialect};
use crate::on_each_server;
use crate::proto;
use crate::servers::{database, feed, source, table_name};
use columns::{Column, columns};

on_each_server!(images_and_scan_give_what_select_prints);

const DATABASE: &str = "all_types";

/// What a row's columns print as, by key.
type Table = BTreeMap<i64, Vec<Option<Vec<u8>>>>;

pub(crate) async fn images_and_scan_give_what_select_prints(server: &Server) -> Result<()> {
    database(server, DATABASE)?;
    let columns = columns(server.flavor());
    let mut session = Conn::new(Opts::from_url(&server.url("root", DATABASE))?).await?;
    for statement in [
        "SET NAMES utf8mb4",
        "SET time_zone = '+00:00'",
        "SET sql_mode = ''",
    ] {
        session.query_drop(statement).await?;
    }
    session.query_drop(create_table(&columns)).await?;
    let source = source(server);
    let name = table_name(DATABASE, "every");
    let names: Vec<&str> = columns
        .iter()
        .filter(|c| c.exported)
        .map(|c| &*c.name)
        .collect();
    let feed = feed(&source, &name, "id > -1000", &names).await?;
    let mut follower = Follower::new(server, &source, std::slice::from_ref(&feed)).await?;

    insert(&mut session, &columns).await?;
    let inserted = select(&mut session, &columns).await?;
    update(&mut session, &columns).await?;
    let updated = select(&mut session, &columns).await?;
    let scanned = scan(&source, &feed).await?;
    session.query_drop("DELETE FROM every").await?;

    let transactions = [
        follower.changes().await?,
        follower.changes().await?,
        follower.changes().await?,
    ];
    assert_eq!(follower.replaced(), 0);
    let nothing = Table::new();
    compare(
        "insert",
        &feed,
        &columns,
        &transactions[0],
        &nothing,
        &inserted,
    )?;
    compare(
        "update",
        &feed,
        &columns,
        &transactions[1],
        &inserted,
        &updated,
    )?;
    compare(
        "delete",
        &feed,
        &columns,
        &transactions[2],
        &updated,
        &nothing,
    )?;
    for change in &transactions[1] {
        let key = change.key.to_bytes();
        let row = change.after.as_ref().context("an update keeps the row")?;
        let (stream, scan) = (row.bytes(), scanned.get(&key[..]).context("scanned")?);
        if stream != scan {
            let (stream, scan) = (shown(&feed, stream)?, shown(&feed, scan)?);
            assert_eq!(stream, scan, "stream and scan differ");
        }
    }
    assert_eq!(scanned.len(), transactions[1].len());
    damaged_events_are_errors(&[feed], dialect(server), &follower.recorded, 300)
}

fn create_table(columns: &[Column]) -> String {
    let declared: Vec<_> = columns
        .iter()
        .map(|column| format!("`{}` {}", column.name, column.declared))
        .collect();
    format!(
        "CREATE TABLE every (id INT PRIMARY KEY, {}) CHARACTER SET utf8mb4",
        declared.join(", ")
    )
}

/// A row of NULLs, and then as many rows as the longest list of values has.
async fn insert(session: &mut Conn, columns: &[Column]) -> Result<()> {
    let written: Vec<_> = columns.iter().filter(|c| !c.values.is_empty()).collect();
    let names: Vec<_> = written.iter().map(|c| format!("`{}`", c.name)).collect();
    let longest = written.iter().map(|c| c.values.len()).max().unwrap_or(0);
    session.query_drop("BEGIN").await?;
    session
        .query_drop("INSERT INTO every (id) VALUES (-1)")
        .await?;
    for row in 0..longest {
        let values: Vec<_> = written
            .iter()
            .map(|c| &*c.values[row % c.values.len()])
            .collect();
        let statement = format!(
            "INSERT INTO every (id, {}) VALUES ({row}, {})",
            names.join(", "),
            values.join(", ")
        );
        session
            .query_drop(&statement)
            .await
            .with_context(|| format!("row {row}"))?;
    }
    session.query_drop("COMMIT").await?;
    Ok(())
}

/// Gives each row the values of the next one.
async fn update(session: &mut Conn, columns: &[Column]) -> Result<()> {
    let written: Vec<_> = columns.iter().filter(|c| !c.values.is_empty()).collect();
    let longest = written.iter().map(|c| c.values.len()).max().unwrap_or(0);
    session.query_drop("BEGIN").await?;
    for row in 0..=longest {
        let set: Vec<_> = written
            .iter()
            .map(|c| format!("`{}` = {}", c.name, c.values[(row + 1) % c.values.len()]))
            .collect();
        let id = if row == longest { -1 } else { row as i64 };
        let statement = format!("UPDATE every SET {} WHERE id = {id}", set.join(", "));
        session.query_drop(&statement).await?;
    }
    session.query_drop("COMMIT").await?;
    Ok(())
}

/// The exported columns as the text protocol prints them.
async fn select(session: &mut Conn, columns: &[Column]) -> Result<Table> {
    let exported = columns.iter().filter(|c| c.exported);
    let expressions: Vec<_> = exported.map(Column::selected).collect();
    let statement = format!("SELECT id, {} FROM every", expressions.join(", "));
    let rows: Vec<Row> = session.query(statement).await?;
    let mut table = Table::new();
    for row in rows {
        let mut values = row.unwrap().into_iter().map(|value| match value {
            Sent::NULL => None,
            Sent::Bytes(text) => Some(text),
            other => panic!("{other:?} from the text protocol"),
        });
        let id = values.next().flatten().context("an id")?;
        table.insert(std::str::from_utf8(&id)?.parse()?, values.collect());
    }
    Ok(table)
}

/// Rows as the scan's values encode, by key.
async fn scan(
    source: &onair_cdc::mysql::MysqlSource,
    feed: &Arc<Feed>,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let found = Arc::new(Mutex::new((Encoder::new(feed), BTreeMap::new())));
    let sink: RowSink = {
        let found = Arc::clone(&found);
        let keys = feed.key.len();
        Arc::new(move |_, values| {
            let (encoder, rows) = &mut *found.lock().unwrap();
            let key = encoder.key(&values[..keys]).unwrap();
            let mut row = Vec::new();
            encoder.row(&values[keys..], &mut row).unwrap();
            assert_eq!(rows.insert(key.to_bytes().to_vec(), row), None);
        })
    };
    let request = ScanRequest {
        feed: Arc::clone(feed),
        delivered: source.identity().await?.executed,
        parallel: 2,
        max_rate: None,
        gate: Gate::always_open(),
    };
    source.scan(&request, sink).await?;
    let rows = std::mem::take(&mut found.lock().unwrap().1);
    Ok(rows)
}

fn compare(
    what: &str,
    feed: &Feed,
    columns: &[Column],
    changes: &[KeyChange],
    before: &Table,
    after: &Table,
) -> Result<()> {
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    ensure!(
        changes.len() == keys.len(),
        "{what}: {} keys",
        changes.len()
    );
    let names: Vec<_> = columns
        .iter()
        .filter(|c| c.exported)
        .map(|c| &c.name)
        .collect();
    for change in changes {
        let key = change.key.to_bytes();
        let id = KeyReader::new(&key, 1).signed()?;
        for (row, table) in [(&change.before, before), (&change.after, after)] {
            let (Some(row), Some(expected)) = (row, table.get(&id)) else {
                assert!(row.is_none() && !table.contains_key(&id), "{what} {id}");
                continue;
            };
            let fields = proto::fields(row.bytes()).context("a protobuf message")?;
            for (index, field) in feed.schema.columns.iter().enumerate() {
                let got = fields.get(&field.number).map(|f| f.show(field.kind));
                let wanted = expected[index].clone().map(|text| normal(field.kind, text));
                assert_eq!(
                    got.as_deref().map(String::from_utf8_lossy),
                    wanted.as_deref().map(String::from_utf8_lossy),
                    "{what}: row {id}, column {}",
                    names[index]
                );
                assert_eq!(got, wanted, "{what}: row {id}, column {}", names[index]);
            }
        }
    }
    Ok(())
}

/// Floating point numbers in one spelling; YEAR 0 as a number.
fn normal(kind: FieldKind, text: Vec<u8>) -> Vec<u8> {
    let number = || std::str::from_utf8(&text).unwrap().parse::<f64>().unwrap();
    match kind {
        FieldKind::Float | FieldKind::Double => format!("{:?}", number()).into_bytes(),
        FieldKind::Year => format!("{}", number() as u16).into_bytes(),
        FieldKind::Int | FieldKind::UInt => {
            // ZEROFILL is for the eye.
            let zeros = text.iter().take_while(|&&b| b == b'0').count();
            text[zeros.min(text.len() - 1)..].to_vec()
        }
        _ => text,
    }
}

fn shown(feed: &Feed, row: &[u8]) -> Result<Vec<String>> {
    let fields = proto::fields(row).context("a protobuf message")?;
    let columns = feed.schema.columns.iter();
    let show = |field: &onair_model::schema::Field| {
        let value = fields.get(&field.number).map(|f| f.show(field.kind));
        format!(
            "{}: {:?}",
            field.column,
            value.as_deref().map(String::from_utf8_lossy)
        )
    };
    Ok(columns.map(show).collect())
}
