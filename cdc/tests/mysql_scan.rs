//! Scans of real tables: every live row once whatever the key, and exactly what `high` says.

use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onair_cdc::encode::Encoder;
use onair_cdc::feed::Feed;
use onair_cdc::mysql::MysqlSource;
use onair_cdc::scan;
use onair_cdc::source::{Gate, RawEvent, RowSink, ScanRequest, Scanned, Source as _, SourceError};
use onair_model::gtid::{SourceId, Tag};
use onair_model::value::Value;
use onair_model::{Gtid, GtidSet, Key};
use onair_xtask::servers::{Server, process};
use tokio::sync::watch;

use crate::follow::Follower;
use crate::on_each_server;
use crate::proxy::{Mischief, Proxy};
use crate::servers::{database, feed, source, source_at, table_name};

on_each_server!(
    every_live_row_comes_once_whatever_the_key,
    a_scan_shows_what_it_says_under_fire,
    a_throttled_scan_takes_its_time,
    a_shut_gate_holds_a_scan_and_the_same_scan_goes_on,
    a_scan_of_another_server_is_refused,
    a_locked_table_does_not_hold_a_scan,
    time_zones_change_nothing,
);

/// What a scan gave, by key.
type Found = BTreeMap<Key, Vec<u8>>;

/// Scans; the rows must have distinct keys.
async fn scan_all(source: &MysqlSource, request: &ScanRequest) -> Result<(Scanned, Found)> {
    let found = Arc::new(Mutex::new(Found::new()));
    let sink: RowSink = {
        let found = Arc::clone(&found);
        let encoder = Mutex::new(Encoder::new(&request.feed));
        let keys = request.feed.key.len();
        Arc::new(move |_, values: &[Value<'_>]| {
            let mut encoder = encoder.lock().unwrap();
            let key = encoder.key(&values[..keys]).unwrap();
            let mut row = Vec::new();
            encoder.row(&values[keys..], &mut row).unwrap();
            assert_eq!(
                found.lock().unwrap().insert(key, row),
                None,
                "came twice: {values:?}"
            );
        })
    };
    let scanned = source.scan(request, sink).await?;
    let found = std::mem::take(&mut *found.lock().unwrap());
    assert_eq!(scanned.rows, found.len() as u64);
    Ok((scanned, found))
}

fn request(feed: &Arc<Feed>, delivered: &GtidSet) -> ScanRequest {
    ScanRequest {
        feed: Arc::clone(feed),
        delivered: delivered.clone(),
        parallel: 4,
        max_rate: None,
        gate: Gate::always_open(),
    }
}

const ROWS: u32 = 21_000;
/// Name, key columns, the key of row `i` from 0.
const KEYS: &[(&str, &str, &str)] = &[
    ("serial", "k BIGINT UNSIGNED, PRIMARY KEY (k)", "i"),
    ("negative", "k INT, PRIMARY KEY (k)", "i * 7 - 100000"),
    // One row in thirty has a small number.
    (
        "skewed",
        "k BIGINT UNSIGNED, PRIMARY KEY (k)",
        "IF(i % 30 = 0, i, 9000000000000000000 + i * i)",
    ),
    (
        "composite",
        "a INT, b VARCHAR(20) CHARACTER SET utf8mb4, PRIMARY KEY (a, b)",
        "i % 5, CONCAT('Ä', i)",
    ),
    // All of one tenant.
    (
        "tenant",
        "a INT, b INT, c INT, PRIMARY KEY (a, b, c)",
        "IF(i < 20, i, 7), i DIV 100, i % 100",
    ),
    (
        "uuid",
        "k CHAR(36) CHARACTER SET ascii, PRIMARY KEY (k)",
        "CONCAT_WS('-', LEFT(SHA2(i, 256), 8), MID(SHA2(i, 256), 9, 4), RIGHT(SHA2(i, 256), 20))",
    ),
    (
        "hash",
        "k BINARY(16), PRIMARY KEY (k)",
        "UNHEX(LEFT(SHA2(i, 256), 32))",
    ),
    (
        "folded",
        "k VARCHAR(40) CHARACTER SET utf8mb4, PRIMARY KEY (k)",
        "CONCAT(IF(i % 2, 'User-', 'uSER-'), LEFT(SHA2(i, 256), 32))",
    ),
    (
        "wide",
        "k VARCHAR(40) CHARACTER SET utf16 COLLATE utf16_bin, PRIMARY KEY (k)",
        "LEFT(SHA2(i, 256), 32)",
    ),
    (
        "latin",
        "k VARCHAR(40) CHARACTER SET latin1, PRIMARY KEY (k)",
        "CONCAT('é', i * 13)",
    ),
    (
        "days",
        "d DATE, n INT, PRIMARY KEY (d, n)",
        "'2025-01-31' + INTERVAL i DIV 100 DAY, i",
    ),
    (
        "moments",
        "t DATETIME(6), PRIMARY KEY (t)",
        "'2025-01-01' + INTERVAL i * 1003 MICROSECOND",
    ),
    (
        "labels",
        "e ENUM('z', 'm', 'a'), n INT, PRIMARY KEY (e, n)",
        "1 + i % 3, i",
    ),
    (
        "decimals",
        "k DECIMAL(20, 3), PRIMARY KEY (k)",
        "i / 8 - 700",
    ),
    ("bits", "k BIT(40), PRIMARY KEY (k)", "i * 1000"),
];

async fn every_live_row_comes_once_whatever_the_key(server: &Server) -> Result<()> {
    database(server, "scan_keys")?;
    let setting = if server.flavor().is_mariadb() {
        "max_recursive_iterations"
    } else {
        "cte_max_recursion_depth"
    };
    for (name, columns, key) in KEYS {
        server.sql(&format!(
            "CREATE TABLE scan_keys.{name} ({columns}, live INT NOT NULL, seen INT NOT NULL);
             SET SESSION {setting} = 1000000;
             INSERT INTO scan_keys.{name}
             WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS} - 1)
             SELECT {key}, i % 3, i FROM n;
             ANALYZE TABLE scan_keys.{name}"
        ))?;
    }
    let source = source(server);
    for (name, ..) in KEYS {
        let feed = feed(
            &source,
            &table_name("scan_keys", name),
            "live = 1",
            &["seen"],
        )
        .await?;
        let delivered = source.identity().await?.executed;
        let (_, found) = scan_all(&source, &request(&feed, &delivered))
            .await
            .context(*name)?;
        assert_eq!(found.len() as u32, ROWS / 3, "{name}");
        for (key, row) in found.iter().step_by(997) {
            let one = scan::row(&source, &feed, key).await.context(*name)?;
            let one = one.map(|one| one.bytes().to_vec());
            assert_eq!(one.as_ref(), Some(row), "{name}: {key:?}");
        }
        let mut empty = request(&feed, &delivered);
        empty.parallel = 1;
        let (scanned, _) = scan_all(&source, &empty).await?;
        assert_eq!(scanned.rows as u32, ROWS / 3, "{name} with one connection");
    }
    server.sql("CREATE TABLE scan_keys.empty (id INT PRIMARY KEY, live INT)")?;
    let feed = feed(
        &source,
        &table_name("scan_keys", "empty"),
        "live = 1",
        &["live"],
    )
    .await?;
    let (scanned, _) =
        scan_all(&source, &request(&feed, &source.identity().await?.executed)).await?;
    assert_eq!(scanned.rows, 0);
    Ok(())
}

async fn a_scan_shows_what_it_says_under_fire(server: &Server) -> Result<()> {
    const WRITERS: usize = 4;
    const EACH: usize = 2_000;
    database(server, "scan_fire")?;
    server.sql("CREATE TABLE scan_fire.t (id INT PRIMARY KEY, live INT NOT NULL, mark VARBINARY(20) NOT NULL)")?;
    let source = source(server);
    let feed = feed(
        &source,
        &table_name("scan_fire", "t"),
        "live = 1",
        &["live"],
    )
    .await?;
    let start = source.identity().await?.executed;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut client = server.bound_client();
        client.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = process::spawn(client)?;
        let mut script = String::new();
        for n in 0..EACH {
            let id = n * WRITERS + writer;
            script.push_str(&format!(
                "INSERT INTO scan_fire.t VALUES ({id}, 1, '~mk~{id:08}.');\n"
            ));
        }
        let mut input = child.stdin.take().context("stdin")?;
        let feeder = std::thread::spawn(move || {
            use std::io::Write as _;
            input.write_all(script.as_bytes())
        });
        writers.push((child, feeder));
    }

    // The stream runs ahead of the scans, as the reader's does.
    let mut events = source.follow(&start).await?;
    let mut stream = Stream::default();
    let mut delivered = start.clone();
    let mut scans = Vec::new();
    while stream.gtids.len() < WRITERS * EACH {
        while stream.gtids.len() < scans.len() * EACH / 2 && stream.gtids.len() < WRITERS * EACH {
            stream.take(events.next().await?, &mut delivered);
        }
        while let Some(event) = events.try_next()? {
            stream.take(event, &mut delivered);
        }
        let (scanned, found) = scan_all(&source, &request(&feed, &delivered)).await?;
        scans.push((delivered.clone(), scanned, found));
        ensure!(scans.len() < 5_000, "the writers do not end");
        stream.take(events.next().await?, &mut delivered);
    }
    for (mut child, feeder) in writers {
        feeder
            .join()
            .map_err(|_| anyhow::anyhow!("feeding a writer"))??;
        ensure!(child.wait()?.success());
    }
    let mut ahead = 0;
    for (delivered, scanned, found) in &scans {
        for (id, gtid) in &stream.gtids {
            let visible = found.contains_key(&Key::from_i64(*id));
            assert!(
                !delivered.contains(gtid) || visible,
                "{gtid} was delivered, {id} not seen"
            );
            assert!(
                !visible || scanned.high.contains(gtid),
                "{id} seen, {gtid} not in high"
            );
            ahead += usize::from(visible && !delivered.contains(gtid));
        }
    }
    eprintln!(
        "{}: {} scans, {ahead} rows ahead of the stream",
        server.flavor(),
        scans.len()
    );
    assert!(
        scans.len() > 3 && ahead > 0,
        "no fire: {} scans",
        scans.len()
    );
    Ok(())
}

/// Which transaction inserted which row, from raw events.
#[derive(Default)]
struct Stream {
    current: Option<Gtid>,
    gtids: HashMap<i64, Gtid>,
}

impl Stream {
    fn take(&mut self, event: RawEvent, delivered: &mut GtidSet) {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let body = &event.body;
        match event.kind {
            33 => {
                let uuid = body[1..17].iter().fold(0, |n, b| n << 8 | u128::from(*b));
                let source = SourceId {
                    uuid,
                    tag: Tag::NONE,
                };
                let number = number(&body[17..25]);
                self.current = Some(Gtid::Mysql { source, number });
            }
            162 => {
                self.current = Some(Gtid::Mariadb {
                    domain: number(&body[8..12]) as u32,
                    server: event.server_id,
                    sequence: number(&body[..8]),
                });
            }
            // What a transaction ends with here: XID, or the statement itself.
            2 | 16 if !body.ends_with(b"BEGIN") => delivered.insert(&self.current.take().unwrap()),
            _ => {}
        }
        let mark = body.windows(4).position(|window| window == b"~mk~");
        if let (Some(mark), Some(gtid)) = (mark, self.current) {
            let id = std::str::from_utf8(&body[mark + 4..mark + 12]).unwrap();
            self.gtids.insert(id.parse().unwrap(), gtid);
        }
    }
}

async fn a_throttled_scan_takes_its_time(server: &Server) -> Result<()> {
    database(server, "scan_slow")?;
    server.sql(
        "CREATE TABLE scan_slow.t (id INT PRIMARY KEY AUTO_INCREMENT, live INT);
         INSERT INTO scan_slow.t (live) VALUES (1), (0), (1), (0);",
    )?;
    for _ in 0..12 {
        server.sql("INSERT INTO scan_slow.t (live) SELECT live FROM scan_slow.t")?;
    }
    server.sql("ANALYZE TABLE scan_slow.t")?;
    let source = source(server);
    let feed = feed(
        &source,
        &table_name("scan_slow", "t"),
        "live = 1",
        &["live"],
    )
    .await?;
    let mut request = request(&feed, &source.identity().await?.executed);
    request.max_rate = Some(8_000);
    let start = Instant::now();
    let (scanned, _) = scan_all(&source, &request).await?;
    assert_eq!(scanned.rows, 8_192);
    // 16,384 rows to look at, the last range paid for by nobody.
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

async fn a_shut_gate_holds_a_scan_and_the_same_scan_goes_on(server: &Server) -> Result<()> {
    database(server, "scan_gate")?;
    server.sql(
        "CREATE TABLE scan_gate.t (id INT PRIMARY KEY AUTO_INCREMENT, live INT);
         INSERT INTO scan_gate.t (live) VALUES (1), (1), (1), (1);",
    )?;
    for _ in 0..12 {
        server.sql("INSERT INTO scan_gate.t (live) SELECT live FROM scan_gate.t")?;
    }
    server.sql("ANALYZE TABLE scan_gate.t")?;
    let source = source(server);
    let feed = feed(
        &source,
        &table_name("scan_gate", "t"),
        "live = 1",
        &["live"],
    )
    .await?;
    let mut request = request(&feed, &source.identity().await?.executed);
    let open = watch::Sender::new(true);
    request.gate = Gate::of(&open);
    // One connection, which comes to the gate before each of its ranges; the first row shuts it.
    request.parallel = 1;
    let rows = Arc::new(AtomicU64::new(0));
    let (seen, shut) = (Arc::clone(&rows), open.clone());
    let sink: RowSink = Arc::new(move |_, _: &[Value<'_>]| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            shut.send_replace(false);
        }
    });
    let scanning = source.scan(&request, sink);
    tokio::pin!(scanning);
    let held = tokio::time::timeout(Duration::from_secs(2), &mut scanning).await;
    ensure!(held.is_err(), "it went through a shut gate: {held:?}");
    let before = rows.load(Ordering::Relaxed);
    ensure!(
        before > 0 && before < 16_384,
        "{before} rows of the first range"
    );
    open.send_replace(true);
    let scanned = scanning.await?;
    ensure!(
        scanned.rows == 16_384 && scanned.bytes >= 16_384 * 8,
        "{scanned:?}"
    );
    ensure!(
        scanned.busy < Duration::from_secs(2),
        "{:?} without the pause",
        scanned.busy
    );
    Ok(())
}

async fn a_scan_of_another_server_is_refused(server: &Server) -> Result<()> {
    let other = Server::start_own(server.flavor(), Default::default())?;
    for server in [server, &other] {
        database(server, "scan_other")?;
        server.sql("CREATE TABLE scan_other.t (id INT PRIMARY KEY, live INT)")?;
    }
    other.create_user(
        "onair",
        "secret",
        &["REPLICATION SLAVE ON *.*", "SELECT ON *.*"],
    )?;
    let address = (server.host(), server.port());
    let proxy = Proxy::start("127.0.0.1", address, Mischief::default()).await?;
    let source = source_at(&proxy.url("onair:secret", ""));
    let feed = feed(
        &source,
        &table_name("scan_other", "t"),
        "live = 1",
        &["live"],
    )
    .await?;
    let delivered = source.identity().await?.executed;
    let _events = source.follow(&delivered).await?;
    scan_all(&source, &request(&feed, &delivered)).await?;
    *proxy.mischief.elsewhere.lock().unwrap() = Some((other.host().to_owned(), other.port()));
    let err = scan_all(&source, &request(&feed, &delivered))
        .await
        .unwrap_err();
    assert!(err.to_string().contains("different servers"), "{err}");
    Ok(())
}

async fn a_locked_table_does_not_hold_a_scan(server: &Server) -> Result<()> {
    database(server, "scan_lock")?;
    server.sql("CREATE TABLE scan_lock.t (id INT PRIMARY KEY, live INT)")?;
    let source = source(server);
    let feed = feed(
        &source,
        &table_name("scan_lock", "t"),
        "live = 1",
        &["live"],
    )
    .await?;
    let delivered = source.identity().await?.executed;
    let mut client = server.bound_client();
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = process::spawn(client)?;
    let mut input = holder.stdin.take().context("stdin")?;
    std::io::Write::write_all(
        &mut input,
        b"LOCK TABLES scan_lock.t WRITE; SELECT 'locked'; \n",
    )?;
    // Held until standard input ends; the answer shows only then, so look for the lock itself.
    let held = Instant::now();
    while server
        .sql("SHOW OPEN TABLES FROM scan_lock WHERE In_use > 0")?
        .is_empty()
    {
        ensure!(held.elapsed() < Duration::from_secs(10), "never locked");
    }
    let start = Instant::now();
    let err = scan_all(&source, &request(&feed, &delivered))
        .await
        .unwrap_err();
    let err = err.downcast::<SourceError>()?;
    assert!(matches!(err, SourceError::Unreachable { .. }), "{err}");
    assert!(start.elapsed() < Duration::from_secs(15));
    drop(input);
    holder.wait()?;
    scan_all(&source, &request(&feed, &delivered)).await?;
    Ok(())
}

/// TIMESTAMPs are instants: the same from stream and scan, whatever zone writer and server are in.
async fn time_zones_change_nothing(server: &Server) -> Result<()> {
    database(server, "scan_zone")?;
    server.sql("CREATE TABLE scan_zone.t (id INT PRIMARY KEY, live INT, at TIMESTAMP(3) NULL, told DATETIME)")?;
    let source = source(server);
    let columns = ["at", "told"];
    let feed = feed(&source, &table_name("scan_zone", "t"), "live = 1", &columns).await?;
    let mut follower = Follower::new(server, &source, &[Arc::clone(&feed)]).await?;
    let before = server.sql("SELECT @@global.time_zone")?;
    let mut streamed = Found::new();
    // One instant, told in three zones, and the hour that comes twice where clocks are set back.
    for (id, zone, at) in [
        (1, "+00:00", "2026-10-25 00:30:00.125"),
        (2, "+05:30", "2026-10-25 06:00:00.125"),
        (3, "-03:00", "2026-10-24 21:30:00.125"),
        (4, "+01:00", "2026-10-25 02:30:00"),
        (5, "+02:00", "2026-10-25 02:30:00"),
    ] {
        server.sql(&format!(
            "SET GLOBAL time_zone = '{zone}'; SET time_zone = '{zone}';
             INSERT INTO scan_zone.t VALUES ({id}, 1, '{at}', '2026-10-25 02:30:00')"
        ))?;
        for (_, changes) in follower.next().await?? {
            for change in changes {
                let row = change.after.context("it is live")?;
                streamed.insert(change.key, row.bytes().to_vec());
            }
        }
    }
    let delivered = source.identity().await?.executed;
    let (_, scanned) = scan_all(&source, &request(&feed, &delivered)).await?;
    server.sql(&format!("SET GLOBAL time_zone = '{}'", before.trim()))?;
    assert_eq!(streamed, scanned);
    let row = |id| &scanned[&Key::from_i64(id)];
    assert_eq!((row(1), row(1)), (row(2), row(3)));
    assert_ne!(row(4), row(5), "an hour apart");
    Ok(())
}
