//! The ways without a merger: each event, or what a bucket has in one flush, is a lightweight transaction of its own.
//!
//! A partition a bucket, one row of it the version that each transaction moves, as anybody must who wants the order.
//! Buckets go on beside each other; inside of one each transaction waits for the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::SerialConsistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};
use tokio::task::JoinSet;

use super::BUCKETS;
use super::stream::{Bare, Stream};
use crate::harness::{Meter, Run};

/// What a flush holds of one bucket.
const BATCH: usize = 100;

struct Statements {
    session: Session,
    put: PreparedStatement,
}

pub(super) async fn run(address: &str, events: u64, each: bool) -> Result<Run> {
    let statements = Arc::new(prepare(address).await?);
    let mut stream = Stream::new(BUCKETS, 0)?;
    let mut by_bucket: BTreeMap<u16, Vec<Bare>> = BTreeMap::new();
    for _ in 0..events {
        let event = stream.step()?;
        by_bucket.entry(event.bucket.get()).or_default().push(event);
    }
    let batch = if each { 1 } else { BATCH };
    let meter = Meter::start()?;
    let mut buckets = JoinSet::new();
    for (bucket, events) in by_bucket {
        let statements = Arc::clone(&statements);
        buckets.spawn(async move {
            let mut done = 0;
            for (at, events) in events.chunks(batch).enumerate() {
                statements.transact(bucket, at as i64, events).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut transactions = 0;
    while let Some(done) = buckets.join_next().await {
        transactions += done??;
    }
    meter.stop(events, &[(super::work::HEADS, transactions)])
}

async fn prepare(address: &str) -> Result<Statements> {
    let session = SessionBuilder::new().known_node(address).build().await?;
    let keyspace = format!("l{:016x}", rand::random::<u64>());
    for cql in [
        format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ),
        format!(
            "CREATE TABLE {keyspace}.room (bucket int, id bigint, row blob, version bigint static, PRIMARY KEY (bucket, id))"
        ),
    ] {
        session.query_unpaged(cql, ()).await?;
    }
    for bucket in BUCKETS.all() {
        let cql = format!("INSERT INTO {keyspace}.room (bucket, version) VALUES (?, 0)");
        session
            .query_unpaged(cql, (i32::from(bucket.get()),))
            .await?;
    }
    let put = format!(
        "UPDATE {keyspace}.room SET row = ?, version = ? WHERE bucket = ? AND id = ? IF version = ?"
    );
    Ok(Statements {
        put: session.prepare(put).await?,
        session,
    })
}

impl Statements {
    /// Moves the bucket's version on from `at`, and its rows with it.
    async fn transact(&self, bucket: u16, at: i64, events: &[Bare]) -> Result<()> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        let mut values = Vec::new();
        for event in events {
            batch.append_statement(self.put.clone());
            let row = event.row.as_ref().map(|row| row.bytes().to_vec());
            values.push((row, at + 1, i32::from(bucket), event.key as i64, at));
        }
        let answer = self.session.batch(&batch, values).await?;
        let answer = answer.into_rows_result()?;
        let first = answer.first_row::<Row>()?;
        let applied = first.columns.first().cloned().flatten();
        ensure!(
            applied == Some(CqlValue::Boolean(true)),
            "somebody else moved bucket {bucket}"
        );
        Ok(())
    }
}
