//! One program draining the backlog, in a process of its own.
//!
//! What is measured begins before the connection for the binlog is opened and ends with the last transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use mysql_async::binlog::EventType;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Opts};
use onair_cdc::assemble::{Assembler, Limits};
use onair_cdc::bind::{FieldNumbers, bind};
use onair_cdc::change::Step;
use onair_cdc::feed::Feed;
use onair_cdc::mysql::{MysqlConfig, MysqlSource};
use onair_cdc::sequence::{Begin, BucketMark, CutKind, FeedMark, Sequence};
use onair_cdc::source::Source;
use onair_cdc::stream::Stream;
use onair_model::{Digest, Epoch, GtidSet, Lineage, Sum};
use serde::{Deserialize, Serialize};

use crate::harness::{Meter, Role, Run};
use crate::table;

/// Steps taken before flushes are looked at again, and least time between two flushes: as in the reader.
const DRAIN_MAX: usize = 256;
const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// Who drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drainer {
    /// `mysql_async`'s stream of events, none of them decoded.
    Floor,
    /// Our stream of events, checksums verified, none of them decoded.
    OurEvents,
    /// `mysql_cdc`, which decodes every row to values.
    MysqlCdc,
    /// `mysql_async`, every row decoded to values.
    MysqlAsync,
    /// The reader: events, decoder, predicate, sequence; what the log would get is dropped.
    Ours,
}

/// The rows of a backlog, drained by one program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drain {
    pub drainer: Drainer,
    pub url: String,
    /// Executed before the backlog.
    pub from: String,
    pub rows: u64,
    pub transactions: u64,
}

impl Drainer {
    pub(super) const ALL: [Self; 5] = [
        Self::Floor,
        Self::OurEvents,
        Self::MysqlCdc,
        Self::MysqlAsync,
        Self::Ours,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Drainer::Floor => "raw drain (mysql_async)",
            Drainer::OurEvents => "raw drain (onair, CRC verified)",
            Drainer::MysqlCdc => "mysql_cdc",
            Drainer::MysqlAsync => "mysql_async, rows decoded",
            Drainer::Ours => "onair",
        }
    }

    pub(super) fn role(self) -> Role {
        match self {
            Drainer::Floor => Role::Floor,
            Drainer::Ours => Role::Ours,
            Drainer::OurEvents | Drainer::MysqlCdc | Drainer::MysqlAsync => Role::Peer,
        }
    }

    /// Why this build does not have it.
    pub(super) fn missing(self) -> Option<&'static str> {
        let is_peer = matches!(self, Drainer::MysqlCdc | Drainer::MysqlAsync);
        (is_peer && !cfg!(feature = "peers")).then_some("not in this build: --features peers")
    }
}

impl Drain {
    /// Drains, here and now.
    pub fn run(&self) -> Result<Run> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        match self.drainer {
            Drainer::Floor => runtime.block_on(self.raw()),
            Drainer::OurEvents => runtime.block_on(self.our_events()),
            Drainer::Ours => runtime.block_on(self.ours()),
            #[cfg(feature = "peers")]
            Drainer::MysqlCdc => super::peers::mysql_cdc(self),
            #[cfg(feature = "peers")]
            Drainer::MysqlAsync => runtime.block_on(super::peers::mysql_async(self)),
            #[cfg(not(feature = "peers"))]
            Drainer::MysqlCdc | Drainer::MysqlAsync => bail!("not in this build"),
        }
    }

    async fn raw(&self) -> Result<Run> {
        let meter = Meter::start()?;
        let mut stream = events(&self.url).await?;
        let (mut bytes, mut transactions) = (0, 0);
        while transactions < self.transactions {
            let event = stream.next().await.context("the stream ended")??;
            bytes += u64::from(event.header().event_size());
            transactions +=
                u64::from(event.header().event_type_raw() == EventType::XID_EVENT as u8);
        }
        meter.stop(
            self.rows,
            &[("transactions", transactions), ("bytes", bytes)],
        )
    }

    async fn our_events(&self) -> Result<Run> {
        let source = source(&self.url)?;
        let meter = Meter::start()?;
        let mut stream = source.follow(&self.from.parse()?).await?;
        let (mut bytes, mut transactions) = (0, 0);
        while transactions < self.transactions {
            let event = stream.next().await?;
            bytes += event.body.len() as u64;
            transactions += u64::from(event.kind == EventType::XID_EVENT as u8);
        }
        meter.stop(
            self.rows,
            &[("transactions", transactions), ("bytes of bodies", bytes)],
        )
    }

    /// What `onair_cdc::reader` does with a stream, as far as the log.
    async fn ours(&self) -> Result<Run> {
        let source = source(&self.url)?;
        let feed = feed(&source).await?;
        let identity = source.identity().await?;
        let mut sequence = sequence(&feed, 0)?;

        let meter = Meter::start()?;
        let from: GtidSet = self.from.parse()?;
        let events = source.follow(&from).await?;
        let assembler = Assembler::new([feed].into(), identity.dialect, Limits::default())
            .with_metadata(identity.metadata)
            .with_beginning(from, identity.executed);
        let mut stream = Stream::new(events, assembler);
        let mut counts = Counts::default();
        let mut flushed = Instant::now();
        while counts.transactions < self.transactions {
            let step = stream.next().await?;
            counts.take(step, &mut sequence)?;
            for _ in 0..DRAIN_MAX {
                match stream.try_next()? {
                    Some(step) => counts.take(step, &mut sequence)?,
                    None => break,
                }
            }
            if sequence.has_pending() && flushed.elapsed() >= FLUSH_INTERVAL {
                flushed = Instant::now();
                drop(sequence.flush(CutKind::Partial));
            }
        }
        drop(sequence.flush(CutKind::Full));
        meter.stop(
            self.rows,
            &[
                ("transactions", counts.transactions),
                ("rows in the feed", counts.changes),
            ],
        )
    }
}

/// Of what a reader took.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) transactions: u64,
    pub(crate) changes: u64,
}

impl Counts {
    pub(crate) fn take(&mut self, step: Step, sequence: &mut Sequence) -> Result<()> {
        match step {
            Step::Transaction(transaction) => {
                self.transactions += 1;
                let changes = transaction.changes.iter();
                self.changes += changes
                    .map(|(_, changes)| changes.len() as u64)
                    .sum::<u64>();
                sequence.transaction(transaction)?;
            }
            Step::Barrier { reason, .. } => bail!("a barrier: {reason}"),
            Step::Heartbeat => {}
        }
        Ok(())
    }
}

/// `mysql_async`'s stream from the first transaction on.
pub(super) async fn events(url: &str) -> Result<BinlogStream> {
    let conn = Conn::new(Opts::from_url(url)?).await?;
    let request = BinlogStreamRequest::new(rand::random_range(1 << 20..1 << 30))
        .with_gtid()
        .with_gtid_set([]);
    Ok(conn.get_binlog_stream(request).await?)
}

fn source(url: &str) -> Result<MysqlSource> {
    Ok(MysqlSource::new(MysqlConfig::from_url(&format!(
        "{url}?ssl-mode=disable"
    ))?)?)
}

/// The feed of the benches' table.
pub(crate) async fn feed(source: &dyn Source) -> Result<Arc<Feed>> {
    let config = table::feed();
    let found = source.table(&config.table).await?;
    let (feed, _) = bind(&config, &found, &FieldNumbers::default())?;
    Ok(Arc::new(feed))
}

/// A reader's state at the start of the first epoch, with so many rows in each bucket, of which no digest is known.
pub(crate) fn sequence(feed: &Feed, count: u64) -> Result<Sequence> {
    let start = Epoch::NONE.next().context("epochs begin")?.start();
    let held = BucketMark {
        d: start,
        sum: Sum {
            digest: Digest::EMPTY,
            count,
        },
    };
    let mark = FeedMark {
        buckets: vec![held; feed.config.buckets.count()],
        gtid: None,
        proven: None,
    };
    Ok(Sequence::new(Begin {
        lineage: Lineage::new(1),
        reader_id: 1,
        version: start,
        commit_time: 0,
        executed: GtidSet::mysql(),
        lost_tail: false,
        feeds: vec![(Arc::clone(&feed.config.name), feed.config.buckets, mark)],
    }))
}
