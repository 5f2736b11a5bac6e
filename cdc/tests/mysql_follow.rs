//! Following the binlog of a real server, and what becomes of damage, silence, purges and namesakes.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onair_cdc::mysql::{MysqlConfig, MysqlSource};
use onair_cdc::source::{Dialect, RawEvent, SILENCE_MAX, Source as _, SourceError};
use onair_model::GtidSet;
use onair_xtask::servers::{Flavor, Options, Server};

use crate::on_each_server;
use crate::proxy::{Mischief, Proxy};
use crate::servers::{block_on, database, read_until, source, source_at};

on_each_server!(
    a_dump_begins_just_after_a_gtid_set,
    a_changed_byte_is_damage,
    a_changed_length_is_damage,
    heartbeats_come_and_nothing_is_waited_for,
    a_half_open_connection_is_noticed,
    large_events_come_whole,
    compressed_transactions_come_as_sent,
    readers_with_one_server_id_are_told,
);

const QUERY: u8 = 2;
const ROTATE: u8 = 4;
const FORMAT_DESCRIPTION: u8 = 15;
const XID: u8 = 16;
const TABLE_MAP: u8 = 19;
const HEARTBEATS: [u8; 2] = [27, 41];
const TRANSACTION_PAYLOAD: u8 = 40;
const MARIADB_WRITE_ROWS_COMPRESSED: u8 = 166;

fn holds(event: &RawEvent, text: &[u8]) -> bool {
    event.body.windows(text.len()).any(|window| window == text)
}

/// A failed `follow` or `next`.
async fn error_of(source: &MysqlSource, from: &GtidSet) -> Result<SourceError> {
    match source.follow(from).await {
        Err(err) => Ok(err),
        Ok(mut events) => loop {
            if let Err(err) = events.next().await {
                return Ok(err);
            }
        },
    }
}

async fn a_dump_begins_just_after_a_gtid_set(server: &Server) -> Result<()> {
    database(server, "follow_from")?;
    server.sql(
        "CREATE TABLE follow_from.t (id INT PRIMARY KEY, v VARBINARY(20));
         INSERT INTO follow_from.t VALUES (1, 'the one before')",
    )?;
    let source = source(server);
    let before = source.identity().await?;
    let mariadb = server.flavor().is_mariadb();
    assert_eq!(before.dialect == Dialect::Mariadb, mariadb);
    server.sql("INSERT INTO follow_from.t VALUES (2, 'the one after')")?;
    let after = source.identity().await?;
    assert_eq!(after.server, before.server);
    assert!(after.executed.contains_set(&before.executed));
    assert!(!before.executed.contains_set(&after.executed));

    let mut events = source.follow(&before.executed).await?;
    let ours = |event: &RawEvent| holds(event, b"the one after");
    let seen = read_until(&mut *events, ours).await?;
    assert_eq!(seen[0].kind, ROTATE);
    let name = String::from_utf8_lossy(&seen[0].body[8..]);
    assert!(name.starts_with("binlog.0"), "a checksum in {name:?}?");
    assert_eq!(seen[1].kind, FORMAT_DESCRIPTION);
    assert_eq!(seen[1].body.last(), Some(&1), "the byte that says CRC-32");
    assert!(!seen.iter().any(|event| holds(event, b"the one before")));
    read_until(&mut *events, |event| event.kind == XID).await?;
    Ok(())
}

async fn a_changed_byte_is_damage(server: &Server) -> Result<()> {
    database(server, "follow_damage")?;
    server.sql("CREATE TABLE follow_damage.t (id INT PRIMARY KEY, v VARBINARY(20))")?;
    let mischief = Mischief {
        replace: Some((b"to be damaged".to_vec(), b"to be DAMAGED".to_vec())),
        ..Mischief::default()
    };
    let proxy = Proxy::start("127.0.0.1", (server.host(), server.port()), mischief).await?;
    let source = source_at(&proxy.url("onair:secret", "?ssl-mode=disable"));
    let from = source.identity().await?.executed;
    server.sql("INSERT INTO follow_damage.t VALUES (1, 'to be damaged')")?;
    let err = error_of(&source, &from).await?;
    let SourceError::Damaged { reason, .. } = &err else {
        panic!("{err}");
    };
    assert!(reason.contains("checksum"), "{reason}");
    assert!(!err.is_final());
    Ok(())
}

/// The event's own length, in a header that nothing but the checksum protects.
async fn a_changed_length_is_damage(server: &Server) -> Result<()> {
    database(server, "follow_length")?;
    let source = source(server);
    let from = source.identity().await?.executed;
    server.sql("CREATE TABLE follow_length.t (id INT PRIMARY KEY)")?;
    let mut events = source.follow(&from).await?;
    let ours = |event: &RawEvent| event.kind == QUERY && holds(event, b"follow_length.t");
    let statement = read_until(&mut *events, ours)
        .await?
        .pop()
        .context("statement")?;
    let header = |len: u32| {
        let mut header = vec![statement.kind];
        header.extend_from_slice(&statement.server_id.to_le_bytes());
        header.extend_from_slice(&len.to_le_bytes());
        header.extend_from_slice(&statement.next_position.to_le_bytes());
        header
    };
    let len = statement.body.len() as u32 + 19 + 4;
    for wrong in [0, 18, len - 1, len + 1, u32::MAX] {
        let mischief = Mischief {
            replace: Some((header(len), header(wrong))),
            ..Mischief::default()
        };
        let address = (server.host(), server.port());
        let proxy = Proxy::start("127.0.0.1", address, mischief).await?;
        let source = source_at(&proxy.url("onair:secret", "?ssl-mode=disable"));
        let err = error_of(&source, &from).await?;
        assert!(matches!(err, SourceError::Damaged { .. }), "{wrong}: {err}");
    }
    Ok(())
}

async fn heartbeats_come_and_nothing_is_waited_for(server: &Server) -> Result<()> {
    database(server, "follow_idle")?;
    let source = source(server);
    let mut events = source.follow(&source.identity().await?.executed).await?;
    let beats = read_until(&mut *events, |event| HEARTBEATS.contains(&event.kind)).await?;
    assert!(!holds(&beats[0], b"nothing"));
    // Just after a heartbeat there is nothing for a second, but for the other tests' transactions.
    let start = Instant::now();
    while events.try_next()?.is_some() {}
    assert!(start.elapsed() < Duration::from_millis(900));

    server.sql("CREATE TABLE follow_idle.t (id INT PRIMARY KEY)")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match events.try_next()? {
            Some(event) if event.kind == QUERY && holds(&event, b"follow_idle.t") => break,
            Some(_) => {}
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(Instant::now() < deadline, "what has arrived is not given");
    }
    Ok(())
}

async fn a_half_open_connection_is_noticed(server: &Server) -> Result<()> {
    let server = (server.host(), server.port());
    let proxy = Proxy::start("127.0.0.1", server, Mischief::default()).await?;
    let source = source_at(&proxy.url("onair:secret", ""));
    let mut events = source.follow(&source.identity().await?.executed).await?;
    read_until(&mut *events, |event| HEARTBEATS.contains(&event.kind)).await?;
    proxy.mischief.silent.store(true, Ordering::Relaxed);
    let start = Instant::now();
    // A reader that looks up every so often, as one with a timer does, must not lose count.
    let err = loop {
        match tokio::time::timeout(Duration::from_millis(100), events.next()).await {
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(err)) => break err,
        }
        assert!(start.elapsed() < SILENCE_MAX * 2, "never noticed");
    };
    assert!(matches!(err, SourceError::Silent { .. }), "{err}");
    assert!(start.elapsed() < SILENCE_MAX + Duration::from_secs(2));
    // And one that cannot even say hello is given up.
    let start = Instant::now();
    let err = source.identity().await.unwrap_err();
    assert!(matches!(err, SourceError::Unreachable { .. }), "{err}");
    assert!(start.elapsed() < Duration::from_secs(12));
    Ok(())
}

async fn large_events_come_whole(server: &Server) -> Result<()> {
    // More than two packets of the protocol, and one that ends exactly with a packet.
    const SIZES: [usize; 2] = [40 << 20, (16 << 20) - 1];
    database(server, "follow_large")?;
    server.sql("CREATE TABLE follow_large.t (id INT PRIMARY KEY, v LONGBLOB)")?;
    let source = source(server);
    let from = source.identity().await?.executed;
    server.sql("SET GLOBAL max_allowed_packet = 1073741824")?;
    for (id, size) in SIZES.iter().enumerate() {
        server.sql(&format!(
            "INSERT INTO follow_large.t VALUES ({id}, REPEAT('x', {size} - 64))"
        ))?;
    }
    let mut events = source.follow(&from).await?;
    for size in SIZES {
        let seen = read_until(&mut *events, |event| event.body.len() > 1 << 20).await?;
        let large = seen.last().context("large")?;
        // Other bytes of the event may happen to be the same.
        let runs = large.body.split(|byte| *byte != b'x');
        assert_eq!(runs.map(<[u8]>::len).max(), Some(size - 64));
    }
    Ok(())
}

async fn compressed_transactions_come_as_sent(server: &Server) -> Result<()> {
    database(server, "follow_packed")?;
    server.sql("CREATE TABLE follow_packed.t (id INT PRIMARY KEY, v TEXT)")?;
    let source = source(server);
    let from = source.identity().await?.executed;
    let text = "REPEAT('to be compressed ', 500)";
    if server.flavor().is_mariadb() {
        // Sessions cannot turn it on, and it does no other test harm.
        server.sql(&format!(
            "SET GLOBAL log_bin_compress = ON; INSERT INTO follow_packed.t VALUES (1, {text}); \
             SET GLOBAL log_bin_compress = OFF"
        ))?;
    } else {
        server.sql(&format!(
            "SET SESSION binlog_transaction_compression = ON; \
             INSERT INTO follow_packed.t VALUES (1, {text}), (2, {text});
             SET SESSION binlog_transaction_compression = OFF; \
             INSERT INTO follow_packed.t VALUES (3, 'last')"
        ))?;
    }
    let mut events = source.follow(&from).await?;
    if server.flavor().is_mariadb() {
        let packed = |event: &RawEvent| event.kind == MARIADB_WRITE_ROWS_COMPRESSED;
        let seen = read_until(&mut *events, packed).await?;
        assert!(!holds(seen.last().context("packed")?, b"compressed to be"));
        return Ok(());
    }
    let packed = |event: &RawEvent| event.kind == TRANSACTION_PAYLOAD;
    let before = read_until(&mut *events, packed).await?;
    let payload = before.last().context("payload")?;
    assert!(payload.body.len() < 5_000, "compressed");
    // What is in it comes in it and not again after it.
    let after = read_until(&mut *events, |event| event.kind == TABLE_MAP).await?;
    assert!(!after.iter().any(|event| holds(event, b"to be compressed")));
    let gtids = after.iter().filter(|event| [33, 42].contains(&event.kind));
    assert!(
        gtids.count() >= 1,
        "a table map of a transaction that began before"
    );
    Ok(())
}

async fn readers_with_one_server_id_are_told(server: &Server) -> Result<()> {
    let id = 2_000_000_000 + u32::from(server.port());
    let reader = || -> Result<MysqlSource> {
        let id = NonZeroU32::new(id).context("not zero")?;
        let config = MysqlConfig::from_url(&server.url("onair:secret", ""))?;
        Ok(MysqlSource::new(config.with_server_id(id))?)
    };
    let (first, second) = (reader()?, reader()?);
    let from = first.identity().await?.executed;
    let mut events = first.follow(&from).await?;
    let told = if server.flavor().is_mariadb() {
        // It does not show us the others, and ends the older one.
        let _second = second.follow(&from).await?;
        loop {
            if let Err(err) = events.next().await {
                break err;
            }
        }
    } else {
        error_of(&second, &from).await?
    };
    assert!(
        matches!(told, SourceError::SameServerId { server_id, .. } if server_id == id),
        "{told:?}"
    );
    assert!(told.is_final());
    if !server.flavor().is_mariadb() {
        // The same reader coming back is no namesake, whether or not its old stream is gone.
        let _again = first.follow(&from).await?;
    }
    Ok(())
}

/// Attempts before old binlog files count as kept for good.
const PURGES_MAX: u32 = 2000;

#[test]
fn a_purged_binlog_says_so() {
    for flavor in [Flavor::Mysql97, Flavor::Mysql80, Flavor::Mariadb1011] {
        with_own(flavor, &[], async |server| {
            database(server, "follow_purged")?;
            let source = source_at(&server.url("root", ""));
            let from = source.identity().await?.executed;
            server.sql("CREATE TABLE follow_purged.t (id INT PRIMARY KEY); FLUSH BINARY LOGS; FLUSH BINARY LOGS")?;
            let newest = server.binlog_files()?.pop().context("a binlog")?;
            let newest = newest
                .file_name()
                .context("name")?
                .to_string_lossy()
                .into_owned();
            // MariaDB keeps a file, without a word, until its engines need it no more.
            let purged = (0..PURGES_MAX).any(|_| {
                server
                    .sql(&format!("PURGE BINARY LOGS TO '{newest}'"))
                    .and_then(|_| server.binlog_files())
                    .is_ok_and(|files| files.len() == 1)
            });
            assert!(purged, "{flavor} keeps its old binlog files");
            let err = error_of(&source, &from).await?;
            assert!(matches!(err, SourceError::Purged { .. }), "{err:?}");
            // Where it is now still works.
            source.follow(&source.identity().await?.executed).await?;
            Ok(())
        });
    }
}

#[test]
fn a_server_that_lost_transactions_says_so() {
    for flavor in [Flavor::Mysql97, Flavor::Mysql80, Flavor::Mariadb1011] {
        with_own(flavor, &[], async |server| {
            let source = source_at(&server.url("root", ""));
            server.sql("CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE c")?;
            let from = source.identity().await?.executed;
            server.sql(if flavor == Flavor::Mysql97 {
                "RESET BINARY LOGS AND GTIDS"
            } else {
                "RESET MASTER"
            })?;
            server.sql("DROP DATABASE a")?;
            let err = error_of(&source, &from).await?;
            assert!(matches!(err, SourceError::Purged { .. }), "{err:?}");
            Ok(())
        });
    }
}

#[test]
fn events_without_checksums_are_taken() {
    for flavor in [Flavor::Mysql97, Flavor::Mariadb1011] {
        with_own(flavor, &["--binlog-checksum=NONE"], async |server| {
            let source = source_at(&server.url("root", ""));
            let from = source.identity().await?.executed;
            server.sql("CREATE DATABASE plain; CREATE TABLE plain.t (id INT)")?;
            let mut events = source.follow(&from).await?;
            let seen = read_until(&mut *events, |event| holds(event, b"plain.t")).await?;
            let name = String::from_utf8_lossy(&seen[0].body[8..]);
            assert!(name.ends_with(|c: char| c.is_ascii_digit()), "{name:?}");
            let statement = seen.last().context("statement")?;
            assert!(statement.body.ends_with(b"(id INT)"), "{statement:?}");
            Ok(())
        });
    }
}

#[test]
fn tagged_gtids_are_followed() {
    with_own(Flavor::Mysql97, &[], async |server| {
        let source = source_at(&server.url("root", ""));
        server.sql("SET gtid_next = 'AUTOMATIC:blue'; CREATE DATABASE tagged_before")?;
        let from = source.identity().await?.executed;
        assert!(from.to_string().contains(":blue:1"), "{from}");
        server.sql("SET gtid_next = 'AUTOMATIC:blue'; CREATE DATABASE tagged_after")?;
        let mut events = source.follow(&from).await?;
        let seen = read_until(&mut *events, |event| holds(event, b"tagged_after")).await?;
        assert!(!seen.iter().any(|event| holds(event, b"tagged_before")));
        Ok(())
    });
}

/// With a server of our own: it is purged, reset, or configured for this.
fn with_own(flavor: Flavor, arguments: &[&str], test: impl AsyncFn(&Server) -> Result<()>) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    let options = Options {
        extra_args: arguments.iter().map(|a| (*a).to_owned()).collect(),
        ..Options::default()
    };
    let server = Server::start_own(flavor, options).unwrap();
    block_on(test(&server)).unwrap_or_else(|err| panic!("{flavor}: {err:?}"));
}
