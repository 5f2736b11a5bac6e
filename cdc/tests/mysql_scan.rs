//! Scans of real tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use onair_cdc::source::{RowSink, ScanRequest, Source as _};
use onair_model::value::Value;
use onair_xtask::servers::Server;

use crate::on_each_server;
use crate::servers::{database, feed, source, table_name};

on_each_server!(a_scan_gives_the_live_rows_once);

/// 60,000 rows with holes, one in seven of them live.
const ROWS: &str = "CREATE TABLE scan_live.room (id BIGINT UNSIGNED PRIMARY KEY, live_status TINYINT NOT NULL, title VARCHAR(40));
    SET SESSION cte_max_recursion_depth = 1000000;
    INSERT INTO scan_live.room WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
    SELECT i * i, i % 7 = 0, CONCAT('room ', i) FROM n;
    ANALYZE TABLE scan_live.room;";

async fn a_scan_gives_the_live_rows_once(server: &Server) -> Result<()> {
    database(server, "scan_live")?;
    let rows = if server.flavor().is_mariadb() {
        ROWS.replace("cte_max_recursion_depth", "max_recursive_iterations")
    } else {
        ROWS.to_owned()
    };
    server.sql(&rows)?;
    let source = source(server);
    let name = table_name("scan_live", "room");
    let feed = feed(&source, &name, "live_status = 1", &["title"]).await?;
    let delivered = source.identity().await?.executed;
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let sink: RowSink = {
        let found = Arc::clone(&found);
        Arc::new(move |values| {
            let [Value::UInt(id), Value::Bytes(title)] = values else {
                panic!("{values:?}");
            };
            let before = found.lock().unwrap().insert(*id, title.to_vec());
            assert_eq!(before, None, "{id} came twice");
        })
    };
    let request = ScanRequest {
        feed,
        delivered: delivered.clone(),
        parallel: 4,
        max_rate: None,
    };
    let scanned = source.scan(&request, sink).await?;
    assert!(scanned.high.contains_set(&delivered));
    let found = found.lock().unwrap();
    assert_eq!(scanned.rows, 60_000 / 7);
    assert_eq!(found.len(), 60_000 / 7);
    for (id, title) in &*found {
        let i = (*id as f64).sqrt() as u64;
        assert_eq!(title, format!("room {i}").as_bytes());
    }
    Ok(())
}
