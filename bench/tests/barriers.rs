//! What changes a table without row events, or makes them unusable: scripted on a server while OnAir runs. After each
//! the client holds what SELECT gives.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use onair_bench::process::Build;
use onair_bench::workload::fill;
use onair_xtask::servers::Flavor;

use crate::world::{self, PATIENCE, World};

/// One case: statements while OnAir runs.
struct Case {
    name: &'static str,
    /// Must a new epoch open?
    is_barrier: bool,
    script: &'static str,
}

const CASES: [Case; 10] = [
    Case {
        name: "TRUNCATE",
        is_barrier: true,
        script: "TRUNCATE TABLE live.room",
    },
    Case {
        name: "DROP and CREATE",
        is_barrier: true,
        script: "CREATE TABLE live.shape LIKE live.room; DROP TABLE live.room; CREATE TABLE live.room LIKE live.shape;
                 DROP TABLE live.shape",
    },
    Case {
        name: "RENAME swap of two tables in one statement",
        is_barrier: true,
        script: "CREATE TABLE live.next LIKE live.room; INSERT INTO live.next SELECT * FROM live.room WHERE id % 2 = 0;
                 RENAME TABLE live.room TO live.last, live.next TO live.room; DROP TABLE live.last",
    },
    Case {
        name: "ADD COLUMN",
        is_barrier: false,
        script: "ALTER TABLE live.room ADD COLUMN extra INT NULL FIRST; UPDATE live.room SET area_id = 3 WHERE id < 50",
    },
    Case {
        name: "DROP COLUMN",
        is_barrier: false,
        script: "ALTER TABLE live.room DROP COLUMN extra; UPDATE live.room SET area_id = 4 WHERE id < 60",
    },
    Case {
        name: "MODIFY COLUMN of an exported column",
        is_barrier: true,
        script: "ALTER TABLE live.room MODIFY COLUMN area_id BIGINT NOT NULL;
                 UPDATE live.room SET area_id = -5000000000 WHERE id < 50",
    },
    Case {
        name: "statement-format DML",
        is_barrier: true,
        script: "SET SESSION binlog_format = STATEMENT; UPDATE live.room SET area_id = 7 WHERE id BETWEEN 10 AND 90",
    },
    Case {
        name: "MINIMAL row image from one session",
        is_barrier: true,
        script: "SET SESSION binlog_row_image = MINIMAL; UPDATE live.room SET area_id = 8 WHERE id BETWEEN 20 AND 120",
    },
    Case {
        name: "partition EXCHANGE",
        is_barrier: true,
        script: "ALTER TABLE live.room PARTITION BY RANGE (id)
                   (PARTITION low VALUES LESS THAN (500), PARTITION high VALUES LESS THAN MAXVALUE);
                 CREATE TABLE live.part LIKE live.room; ALTER TABLE live.part REMOVE PARTITIONING;
                 ALTER TABLE live.room EXCHANGE PARTITION low WITH TABLE live.part; DROP TABLE live.part",
    },
    Case {
        name: "XA PREPARE and ROLLBACK",
        is_barrier: false,
        script: "XA START 'a'; UPDATE live.room SET area_id = 9 WHERE id > 900; XA END 'a'; XA PREPARE 'a'; XA ROLLBACK 'a'",
    },
];

#[test]
fn every_barrier_ends_in_equality_on_mysql_9_7() {
    world::run(Flavor::Mysql97, Build::Plain, barriers);
}

#[test]
fn every_barrier_ends_in_equality_on_mysql_8_0() {
    world::run(Flavor::Mysql80, Build::Plain, barriers);
}

#[test]
fn every_barrier_ends_in_equality_on_mariadb_10_11() {
    world::run(Flavor::Mariadb1011, Build::Plain, barriers);
}

async fn barriers(mut world: World) -> Result<()> {
    let flavor = world.server.flavor();
    let mut marks = 0;
    for case in CASES {
        world.server.sql(&fill(1..=1_000))?;
        world.settle().await?;
        let before = world.observer.progress().epoch;
        world
            .server
            .sql(case.script)
            .with_context(|| case.name.to_owned())?;
        mark(&world, &mut marks)?;
        world.equal().await.with_context(|| case.name.to_owned())?;
        let after = world.observer.progress().epoch;
        report(&world, case.name, before);
        if case.is_barrier {
            assert!(after > before, "{flavor}: {} opened no epoch", case.name);
        }
    }
    xa_across_a_kill(&mut world, &mut marks).await?;
    purged(&mut world, &mut marks).await?;
    reset(&mut world, &mut marks).await?;
    older_copy(&mut world, &mut marks).await
}

/// A row of its own after each case, so that equality means that the stream goes on.
fn mark(world: &World, marks: &mut u64) -> Result<()> {
    *marks += 1;
    world
        .server
        .sql(&format!(
            "INSERT INTO live.room (uid, id, area_id, live_status) VALUES (1, {}, 1, 1)",
            1_000_000 + *marks
        ))
        .map(drop)
}

fn report(world: &World, name: &str, before: u32) {
    let epoch = world.observer.progress().epoch;
    let why = match epoch > before {
        true => world.onair.epochs().pop().unwrap_or_default(),
        false => "the epoch goes on".into(),
    };
    println!("{}: {name}: equal; {why}", world.server.flavor());
}

/// Prepared before OnAir dies, committed when it is back: the epoch goes on.
async fn xa_across_a_kill(world: &mut World, marks: &mut u64) -> Result<()> {
    let before = world.observer.progress().epoch;
    world.checkpointed().await?;
    world.server.sql(
        "XA START 'k'; UPDATE live.room SET area_id = 10 WHERE id BETWEEN 800 AND 900; XA END 'k'; XA PREPARE 'k'",
    )?;
    // A resume reads the last 64 transactions again in any case: the PREPARE is not to be one of them.
    world
        .server
        .sql(&"INSERT INTO live.other (note) VALUES ('later');\n".repeat(100))?;
    // A checkpoint would be beyond the PREPARE after this, if nothing held it back: it is taken each second, and the heads
    // pass a full cut less often than that.
    for _ in 0..2 {
        mark(world, marks)?;
        world.settle().await?;
        world.merged().await?;
    }
    world.onair.kill9()?;
    world.onair.start()?;
    world.server.sql("XA COMMIT 'k'")?;
    mark(world, marks)?;
    world.equal().await.context("XA across kill -9")?;
    let name = "XA across kill -9 between PREPARE and COMMIT";
    report(world, name, before);
    let after = world.observer.progress().epoch;
    assert_eq!(after, before, "{name}: {:?}", world.onair.epochs().pop());
    Ok(())
}

async fn purged(world: &mut World, marks: &mut u64) -> Result<()> {
    let before = world.observer.progress().epoch;
    world.onair.stop()?;
    world
        .server
        .sql("UPDATE live.room SET area_id = 11 WHERE id > 700; FLUSH BINARY LOGS")?;
    let files = world.server.binlog_files()?;
    let last = files
        .last()
        .and_then(|file| file.file_name())
        .context("no binlog file")?
        .to_string_lossy()
        .into_owned();
    // MariaDB keeps a file, without a word, until its engines need it no more.
    let began = Instant::now();
    loop {
        world
            .server
            .sql(&format!("PURGE BINARY LOGS TO '{last}'"))?;
        if world.server.binlog_files()?.len() == 1 {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "old binlog files are kept");
    }
    world.onair.start()?;
    mark(world, marks)?;
    world.equal().await.context("purge while stopped")?;
    opened(world, "binlog purge while stopped", before)
}

async fn reset(world: &mut World, marks: &mut u64) -> Result<()> {
    let before = world.observer.progress().epoch;
    let reset = match world.server.flavor() {
        Flavor::Mysql97 => "RESET BINARY LOGS AND GTIDS",
        _ => "RESET MASTER",
    };
    world.server.sql(reset)?;
    world
        .server
        .sql("UPDATE live.room SET area_id = 12 WHERE id > 600")?;
    mark(world, marks)?;
    world.equal().await.context(reset)?;
    opened(world, reset, before)
}

async fn older_copy(world: &mut World, marks: &mut u64) -> Result<()> {
    let before = world.observer.progress().epoch;
    let data = world.server.data_dir()?.to_owned();
    let copy = world.dir.path().join("copy");
    world.server.stop()?;
    copy_dir(&data, &copy)?;
    world.server.restart()?;
    world
        .server
        .sql("UPDATE live.room SET area_id = 13 WHERE id > 500")?;
    mark(world, marks)?;
    world.equal().await.context("before the restore")?;
    world.server.stop()?;
    std::fs::remove_dir_all(&data)?;
    copy_dir(&copy, &data)?;
    world.server.restart()?;
    mark(world, marks)?;
    world
        .equal()
        .await
        .context("data directory replaced by an older copy")?;
    opened(world, "data directory replaced by an older copy", before)
}

/// Reports a case after which the stream cannot go on: an epoch must have been opened.
fn opened(world: &World, name: &str, before: u32) -> Result<()> {
    report(world, name, before);
    let after = world.observer.progress().epoch;
    ensure!(after > before, "{name} opened no epoch");
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
