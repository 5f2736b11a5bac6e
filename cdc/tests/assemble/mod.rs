//! The assembler on the binlogs of real servers: scripted statements in, steps out.

mod cases;

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use onair_cdc::assemble::{Assembler, Limits};
use onair_cdc::change::{KeyChange, Step, Transaction};
use onair_cdc::feed::Feed;
use onair_cdc::mysql::MysqlSource;
use onair_cdc::source::{EventStream, RawEvent, RowMetadata, Source as _};
use onair_model::{GtidSet, Row};
use onair_xtask::servers::{Flavor, Options, Server, process};

use self::cases::{COMMON, Case, MARIADB, MYSQL_FIRST, MYSQL_LAST, SCHEMA, TAGS};
use crate::servers::{PATIENCE, block_on, feed, source, table_name};

/// Kinds of events that must have been among them: statements, load data, XID, rows, XA_PREPARE, then of each.
const SEEN: [u8; 5] = [2, 18, 16, 19, 38];

#[test]
fn steps_of_mariadb_11_8() {
    let kinds = [&SEEN[..], &[23, 24, 25, 162, 165, 166, 167, 168]].concat();
    check(Flavor::Mariadb118, &[COMMON, MARIADB], &kinds);
}

#[test]
fn steps_of_mysql_9_7() {
    let kinds = [&SEEN[..], &[29, 30, 31, 32, 33, 40, 42]].concat();
    check(
        Flavor::Mysql97,
        &[COMMON, MYSQL_FIRST, TAGS, MYSQL_LAST],
        &kinds,
    );
}

#[test]
fn steps_of_mysql_8_0() {
    let kinds = [&SEEN[..], &[29, 30, 31, 32, 33, 40]].concat();
    check(Flavor::Mysql80, &[COMMON, MYSQL_FIRST, MYSQL_LAST], &kinds);
}

#[test]
fn steps_of_mariadb_10_11() {
    let kinds = [&SEEN[..], &[23, 24, 25, 162, 165, 166, 167, 168]].concat();
    check(Flavor::Mariadb1011, &[COMMON, MARIADB], &kinds);
}

fn check(flavor: Flavor, cases: &[&[Case]], kinds: &[u8]) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    block_on(run(flavor, cases, kinds)).unwrap_or_else(|error| panic!("{flavor}: {error:?}"));
}

/// A server of our own with the tables, and the feed of `room`.
async fn prepare(flavor: Flavor) -> Result<(Server, MysqlSource, Arc<[Arc<Feed>]>)> {
    let options = Options {
        extra_args: vec![
            "--binlog-row-metadata=FULL".to_owned(),
            "--local-infile=ON".to_owned(),
        ],
        ..Options::default()
    };
    let server = Server::start_own(flavor, options)?;
    server.create_user(
        "onair",
        "secret",
        &["REPLICATION SLAVE ON *.*", "SELECT ON *.*"],
    )?;
    server.sql(SCHEMA)?;
    let source = source(&server);
    let room = table_name("live", "room");
    let feed = feed(&source, &room, "live_status = 1", &["title"]).await?;
    Ok((server, source, [feed].into()))
}

async fn run(flavor: Flavor, cases: &[&[Case]], kinds: &[u8]) -> Result<()> {
    let (server, source, feeds) = prepare(flavor).await?;
    let begin = source.identity().await?;
    assert_eq!(begin.metadata, RowMetadata::Full);
    let clock = || -> Result<i64> {
        let now = server.sql("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")?;
        Ok(now.trim().parse()?)
    };
    let begun = clock()?;
    let assembler = |limits, metadata| {
        Assembler::new(feeds.clone(), begin.dialect, limits).with_metadata(metadata)
    };

    let mut reader = Reader::new(
        source.follow(&begin.executed).await?,
        assembler(Limits::default(), RowMetadata::Full),
        &begin.executed,
    );
    let mut wrong = Vec::new();
    for case in cases.iter().copied().flatten() {
        let first = reader.events.len();
        let steps = reader.steps.len();
        execute(&server, case.sql)?;
        let now = source.identity().await?.executed;
        let outcome = reader.read_through(&now).await;
        let events = trace(&reader.events[first..]);
        outcome.with_context(|| format!("after {}; events: {events}", case.sql))?;
        let lines: Vec<String> = reader.steps[steps..].iter().map(show).collect();
        if lines != case.steps {
            let (sql, wanted) = (case.sql, case.steps);
            wrong.push(format!(
                "{sql}\n  wanted {wanted:?}\n  got    {lines:?}\n  events {events}"
            ));
        }
    }
    if !wrong.is_empty() {
        bail!("{} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
    assert_eq!(reader.assembler.open_xa().count(), 0);
    for kind in kinds {
        let seen = reader.events.iter().any(|event| event.kind == *kind);
        assert!(seen, "no event of kind {kind} has come");
    }

    let commit_times = || reader.steps.iter().filter_map(commit_time);
    // Whole seconds begin before what happens in them.
    let within = begun - 1_000_000..=clock()?;
    assert!(commit_times().all(|time| within.contains(&time)));
    let whole_seconds = commit_times().all(|time| time % 1_000_000 == 0);
    assert_eq!(whole_seconds, flavor.is_mariadb());

    // The same bytes over another connection give the same steps, fingerprints and all.
    let mut again = Reader::new(
        source.follow(&begin.executed).await?,
        assembler(Limits::default(), RowMetadata::Full),
        &begin.executed,
    );
    again.read_through(&reader.seen).await?;
    assert_eq!(again.steps, reader.steps);

    // Heartbeats on the way say nothing yet; the first that counts comes after everything.
    let waiting = assembler(Limits::default(), RowMetadata::Full)
        .with_beginning(begin.executed.clone(), reader.seen.clone());
    let mut waiting = Reader::new(
        source.follow(&begin.executed).await?,
        waiting,
        &begin.executed,
    );
    waiting.read_to_heartbeat().await?;
    assert_eq!(waiting.steps, reader.steps);

    barriers_instead(&reader, assembler)?;
    alterations(&reader, || assembler(Limits::default(), RowMetadata::Full));
    Ok(())
}

fn commit_time(step: &Step) -> Option<i64> {
    match step {
        Step::Transaction(tx) => Some(tx.commit_time),
        _ => None,
    }
}

/// As [`Server::sql`], in database `live`, with the client's files at the server's disposal.
fn execute(server: &Server, sql: &str) -> Result<()> {
    let mut client = server.client();
    client
        .args(["--local-infile=1", "live"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = process::spawn(client)?;
    // Statements are shorter than a pipe's buffer.
    child
        .stdin
        .take()
        .context("the client has no standard input")?
        .write_all(sql.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{sql}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn xa_prepared_before_a_crash_of_mysql_9_7() {
    crash(Flavor::Mysql97);
}

#[test]
fn xa_prepared_before_a_crash_of_mysql_8_0() {
    crash(Flavor::Mysql80);
}

#[test]
fn xa_prepared_before_a_crash_of_mariadb_10_11() {
    crash(Flavor::Mariadb1011);
}

fn crash(flavor: Flavor) {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return;
    }
    block_on(run_crash(flavor)).unwrap_or_else(|error| panic!("{flavor}: {error:?}"));
}

/// The server is killed between PREPARE and COMMIT; a stream that begins before PREPARE has the rows at COMMIT,
/// one that begins after it has a barrier there, and nothing at a ROLLBACK.
async fn run_crash(flavor: Flavor) -> Result<()> {
    let (server, source, feeds) = prepare(flavor).await?;
    let begin = source.identity().await?;
    execute(
        &server,
        "INSERT INTO room VALUES (1, 1, 'a', ''), (2, 1, 'a', '');
         XA START 'p'; UPDATE room SET title = 'b' WHERE id = 1; XA END 'p'; XA PREPARE 'p'",
    )?;
    execute(
        &server,
        "XA START 'q'; UPDATE room SET title = 'b' WHERE id = 2; XA END 'q'; XA PREPARE 'q'",
    )?;
    let prepared = source.identity().await?;
    server.kill9()?;
    server.restart()?;
    execute(&server, "XA COMMIT 'p'; XA ROLLBACK 'q'")?;
    let end = source.identity().await?;

    let all = ["tx 1:+a 2:+a", "tx", "tx", "tx 1:a>b", "tx"];
    let late = [
        "barrier XA COMMIT X'70',X'',1, whose rows were prepared before the stream began or given up",
        "tx",
    ];
    for (from, expected) in [(&begin, &all[..]), (&prepared, &late[..])] {
        let assembler = Assembler::new(feeds.clone(), from.dialect, Limits::default());
        let stream = source.follow(&from.executed).await?;
        let mut reader = Reader::new(stream, assembler, &from.executed);
        reader.read_through(&end.executed).await?;
        let lines: Vec<String> = reader.steps.iter().map(show).collect();
        assert_eq!(lines, expected, "{}", trace(&reader.events));
    }
    Ok(())
}

/// With less memory, fewer XA transactions or less metadata the same groups come, more of them as barriers.
fn barriers_instead(
    reader: &Reader,
    assembler: impl Fn(Limits, RowMetadata) -> Assembler,
) -> Result<()> {
    let barriers = |limits, metadata| -> Result<usize> {
        let steps = replay(&reader.events, assembler(limits, metadata))?;
        assert_eq!(steps.len(), reader.steps.len());
        Ok(steps
            .iter()
            .filter(|step| matches!(step, Step::Barrier { .. }))
            .count())
    };
    let all = Limits::default();
    let none = barriers(all, RowMetadata::Full)?;
    let changed = |step: &&Step| matches!(step, Step::Transaction(tx) if !tx.changes.is_empty());
    let changes = reader.steps.iter().filter(changed).count();
    let no_memory = Limits {
        transaction_bytes: 0,
        ..all
    };
    let no_xa = Limits {
        xa_open_max: 0,
        ..all
    };
    // Each with changes, and those that come to nothing in the end or are prepared.
    assert!(barriers(no_memory, RowMetadata::Full)? > none + changes);
    // Prepared and committed twice, rolled back once; MySQL has them compressed once more.
    assert!(barriers(no_xa, RowMetadata::Full)? >= none + 5);
    // Three changes of the definition, but not the table map without names.
    assert!(barriers(all, RowMetadata::Minimal)? >= none + 3 - 1);
    Ok(())
}

/// Whatever the bytes of a real binlog are changed to, the outcome is steps or an error.
fn alterations(reader: &Reader, assembler: impl Fn() -> Assembler) {
    const ROUNDS: usize = 300;
    let mut random = 0x6f6e_6169_7200_0001_u64;
    let mut below = |bound: usize| {
        // xorshift64: any will do, the same each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound.max(1) as u64) as usize
    };
    let mut errors = 0;
    for _ in 0..ROUNDS {
        let mut events = reader.events.clone();
        let event = below(events.len());
        let mut body = events[event].body.to_vec();
        match below(3) {
            0 => body.truncate(below(body.len())),
            1 => body.insert(below(body.len()), below(256) as u8),
            _ => {
                let at = below(body.len());
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 1 << below(8);
                }
            }
        }
        events[event].body = body.into();
        errors += usize::from(replay(&events, assembler()).is_err());
    }
    assert!(
        errors > ROUNDS / 10,
        "only {errors} of {ROUNDS} were noticed"
    );
}

fn replay(events: &[RawEvent], mut assembler: Assembler) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for event in events {
        assembler.push(event, &mut |step| steps.push(step))?;
    }
    steps.retain(|step| *step != Step::Heartbeat);
    Ok(steps)
}

/// Kinds of events, with the text of statements.
fn trace(events: &[RawEvent]) -> String {
    let mut trace = String::new();
    for event in events {
        trace.push_str(&event.kind.to_string());
        if event.kind == 2 {
            let text = String::from_utf8_lossy(&event.body[13..]);
            let text = text.rsplit('\0').next().unwrap_or_default();
            trace.push_str(&format!(" `{text}`"));
        }
        trace.push_str("; ");
    }
    trace
}

/// A stream and what makes steps of it, with all that came.
struct Reader {
    stream: Box<dyn EventStream>,
    assembler: Assembler,
    seen: GtidSet,
    events: Vec<RawEvent>,
    /// But for heartbeats.
    steps: Vec<Step>,
}

impl Reader {
    fn new(stream: Box<dyn EventStream>, assembler: Assembler, from: &GtidSet) -> Self {
        Reader {
            stream,
            assembler,
            seen: from.clone(),
            events: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Reads on until all of `target` was seen.
    async fn read_through(&mut self, target: &GtidSet) -> Result<()> {
        while !self.seen.contains_set(target) {
            self.read().await?;
        }
        Ok(())
    }

    /// Reads on until a heartbeat counts.
    async fn read_to_heartbeat(&mut self) -> Result<()> {
        while !self.read().await? {}
        Ok(())
    }

    /// One event; whether it was a heartbeat.
    async fn read(&mut self) -> Result<bool> {
        let event = tokio::time::timeout(PATIENCE, self.stream.next()).await??;
        let (seen, steps) = (&mut self.seen, &mut self.steps);
        let mut heartbeat = false;
        let outcome = self.assembler.push(&event, &mut |step| {
            match &step {
                Step::Transaction(Transaction { gtid, .. })
                | Step::Barrier {
                    gtid: Some(gtid), ..
                } => seen.insert(gtid),
                Step::Barrier { gtid: None, .. } => {}
                Step::Heartbeat => {
                    heartbeat = true;
                    return;
                }
            }
            steps.push(step);
        });
        self.events.push(event);
        outcome?;
        Ok(heartbeat)
    }
}

/// `tx` with its tag and, for each key, `+` for On, `-` for Off, `>` for Change.
fn show(step: &Step) -> String {
    match step {
        Step::Heartbeat => "heartbeat".to_owned(),
        Step::Barrier { reason, .. } => {
            let reason = reason.to_string();
            let reason = reason
                .split(": ")
                .take(if reason.starts_with("live.") { 3 } else { 1 });
            format!("barrier {}", reason.collect::<Vec<_>>().join(": "))
        }
        Step::Transaction(tx) => {
            let gtid = tx.gtid.to_string();
            let mut line = "tx".to_owned();
            if gtid.matches(':').count() == 2 {
                let (_, tag) = gtid.split_once(':').unwrap_or_default();
                line.push(':');
                line.push_str(tag);
            }
            for (index, changes) in &tx.changes {
                assert_eq!(*index, 0);
                for KeyChange { key, before, after } in changes {
                    let key = key.as_u64().unwrap_or_default();
                    let change = match (title(before), title(after)) {
                        (Some(before), Some(after)) => format!("{before}>{after}"),
                        (Some(before), None) => format!("-{before}"),
                        (None, Some(after)) => format!("+{after}"),
                        (None, None) => "nothing".to_owned(),
                    };
                    line.push_str(&format!(" {key}:{change}"));
                }
            }
            line
        }
    }
}

/// The only field of a row, a short string.
fn title(row: &Option<Row>) -> Option<String> {
    let bytes = row.as_ref()?.bytes();
    Some(String::from_utf8_lossy(bytes.get(2..).unwrap_or_default()).into_owned())
}
