//! Others that read the binlog, each as its documentation shows it.

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt as _;
use mysql_async::binlog::events::EventData;
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::{Opts, Value};
use mysql_cdc::binlog_client::BinlogClient;
use mysql_cdc::binlog_options::BinlogOptions;
use mysql_cdc::events::binlog_event::BinlogEvent;
use mysql_cdc::events::row_events::mysql_value::MySqlValue;
use mysql_cdc::events::row_events::row_data::RowData;
use mysql_cdc::providers::mysql::gtid::gtid_set::GtidSet;
use mysql_cdc::replica_options::ReplicaOptions;

use super::drain::{Drain, events};
use crate::harness::{Meter, Run};
use crate::table::LIVE_STATUS_AT;

/// The example of its README: GTID replication, `commit` after each event.
pub(super) fn mysql_cdc(drain: &Drain) -> Result<Run> {
    let opts = Opts::from_url(&drain.url)?;
    let options = ReplicaOptions {
        hostname: opts.ip_or_hostname().to_owned(),
        port: opts.tcp_port(),
        username: opts.user().unwrap_or_default().to_owned(),
        password: opts.pass().unwrap_or_default().to_owned(),
        server_id: rand::random_range(1 << 20..1 << 30),
        binlog: BinlogOptions::from_mysql_gtid(GtidSet::parse("").map_err(failed)?),
        ..ReplicaOptions::default()
    };
    let is_live = |row: &RowData| {
        matches!(
            row.cells.get(LIVE_STATUS_AT),
            Some(Some(MySqlValue::TinyInt(1)))
        )
    };
    let meter = Meter::start()?;
    let mut client = BinlogClient::new(options);
    let mut stream = client.replicate().map_err(failed)?;
    let (mut rows, mut touching, mut transactions) = (0, 0, 0);
    while transactions < drain.transactions {
        let (header, event) = stream.next().context("the stream ended")?.map_err(failed)?;
        match &event {
            BinlogEvent::UpdateRowsEvent(update) => {
                for row in &update.rows {
                    rows += 1;
                    touching +=
                        u64::from(is_live(&row.before_update) || is_live(&row.after_update));
                }
            }
            BinlogEvent::XidEvent(_) => transactions += 1,
            _ => {}
        }
        client.commit(&header, &event);
    }
    stop(meter, drain, rows, touching, transactions)
}

fn failed(error: mysql_cdc::errors::Error) -> anyhow::Error {
    anyhow!("mysql_cdc: {error:?}")
}

/// Its binlog stream, each rows event read and each of its rows decoded.
pub(super) async fn mysql_async(drain: &Drain) -> Result<Run> {
    let is_live = |row: &Option<BinlogRow>| {
        let value = row.as_ref().and_then(|row| row.as_ref(LIVE_STATUS_AT));
        matches!(value, Some(BinlogValue::Value(Value::Int(1))))
    };
    let meter = Meter::start()?;
    let mut stream = events(&drain.url).await?;
    let (mut rows, mut touching, mut transactions) = (0, 0, 0);
    while transactions < drain.transactions {
        let event = stream.next().await.context("the stream ended")??;
        match event.read_data()? {
            Some(EventData::RowsEvent(event)) => {
                let table = stream.get_tme(event.table_id());
                let table = table.context("rows of a table that was not described")?;
                for row in event.rows(table) {
                    let (before, after) = row?;
                    rows += 1;
                    touching += u64::from(is_live(&before) || is_live(&after));
                }
            }
            Some(EventData::XidEvent(_)) => transactions += 1,
            _ => {}
        }
    }
    stop(meter, drain, rows, touching, transactions)
}

fn stop(meter: Meter, drain: &Drain, rows: u64, touching: u64, transactions: u64) -> Result<Run> {
    meter.stop(
        drain.rows,
        &[
            ("rows", rows),
            ("rows in the feed", touching),
            ("transactions", transactions),
        ],
    )
}
