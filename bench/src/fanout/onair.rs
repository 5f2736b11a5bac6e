//! Ours: the server as it is, on a log in memory and an empty store, and in the same process a feed whose changes go the
//! reader's way: versions, chain and digests, records and cuts. What the binlog would cost is not in it.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onair_cdc::change::{KeyChange, Transaction};
use onair_cdc::sequence::{self, Begin, BucketMark, CutKind, FeedMark, Sequence};
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::{EventLog as _, Flush, Layout};
use onair_model::gtid::{SourceId, Tag};
use onair_model::schema::{Field, FieldKind, Schema};
use onair_model::{Body, Buckets, Epoch, Gtid, GtidSet, Key, Lineage, Row};
use onair_server::{Backends, FeedLayout, Server, Settings};
use onair_store::cells::{Moved, move_cell};
use onair_store::checkpoint::CellValue as _;
use onair_store::redb::RedbStore;
use onair_store::schema::FeedSchema;
use onair_store::{CellKey, ShardStore};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::rows::room;
use super::{Published, clock, descriptors};
use crate::harness::child::say;

pub(super) const FEED: &str = "rooms";
const LINEAGE: Lineage = Lineage::new(7);
const BUCKETS: NonZeroU16 = NonZeroU16::new(16).expect("more than none");
/// How often the reader states the whole feed.
const FULL_CUT: Duration = Duration::from_secs(1);

/// A feed with so many live rows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct OnAir {
    pub(crate) subscribers: usize,
    pub(crate) rows: u32,
}

impl OnAir {
    /// Serves until there are no more orders.
    pub(super) fn serve(&self) -> Result<()> {
        descriptors::allow(self.subscribers)?;
        // As the binary has it.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serving())?;
        runtime.shutdown_background();
        Ok(())
    }

    async fn serving(&self) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Arc::new(RedbStore::open(dir.path().join("store.redb"))?);
        let log = Arc::new(MemoryLog::new(MemoryConfig::default()));
        describe(&*store).await?;
        let mut feed = Feed::open(Arc::clone(&log), self.rows).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let backends = Backends {
            lineage: LINEAGE,
            log,
            store,
            roles: Arc::new(Vec::new),
            build: env!("CARGO_PKG_VERSION").into(),
        };
        let layout = FeedLayout {
            name: FEED.into(),
            buckets: Buckets::new(BUCKETS),
        };
        let server = Server::new(listener, backends, vec![layout], Settings::default());
        let handle = server.handle();
        let mut serving = JoinSet::new();
        serving.spawn(server.run(CancellationToken::new()));
        handle.ready().await;
        say(&json!({ "ready": { "port": port } }))?;
        let mut orders = super::orders();
        let mut tick = tokio::time::interval(FULL_CUT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(publish) = order.transpose()? else {
                        return Ok(());
                    };
                    for due in publish.dues() {
                        tokio::time::sleep(due.saturating_sub(clock::now()?)).await;
                        feed.update(publish.rows).await?;
                    }
                    let served = handle.feeds();
                    let served = served.first().context("it serves a feed")?;
                    Published {
                        subscribers: served.clients,
                        version: Some(feed.sequence.version().get()),
                        encodings: Some(served.encodings),
                    }.say()?;
                }
                _ = tick.tick() => feed.attest().await?,
            }
        }
    }
}

struct Feed {
    sequence: Sequence,
    log: Arc<MemoryLog>,
    updates: u64,
    stated: Instant,
}

impl Feed {
    /// Opens the first epoch with these rows.
    async fn open(log: Arc<MemoryLog>, rows: u32) -> Result<Self> {
        let buckets = Buckets::new(BUCKETS);
        log.open(&Layout {
            feed: FEED.into(),
            buckets,
        })
        .await?;
        let rows: Vec<(Key, Row)> = (0..u64::from(rows))
            .map(|id| room(id, 0))
            .map(|room| (room.key(), room.row()))
            .collect();
        let sums = sequence::sums_of(buckets, rows.iter().map(|(key, row)| (key, row)));
        let start = Epoch::new(1).context("there is a first epoch")?.start();
        let mark = |sum: &onair_model::Sum| BucketMark {
            d: start,
            sum: *sum,
        };
        let mark = FeedMark {
            buckets: sums.iter().map(mark).collect(),
            gtid: None,
            proven: None,
        };
        let mut sequence = Sequence::new(Begin {
            lineage: LINEAGE,
            reader_id: 1,
            version: start,
            commit_time: 0,
            executed: GtidSet::mysql(),
            lost_tail: false,
            feeds: vec![(FEED.into(), buckets, mark)],
        });
        sequence.attest(clock::wall_micros()?);
        let mut contents = vec![Vec::new(); buckets.count()];
        for (key, row) in rows {
            contents[buckets.of(&key).index()].push((key, row));
        }
        let bodies = buckets.all().zip(contents);
        let bodies = bodies.map(|(bucket, rows)| (bucket, Body::Replace { d: start, rows }));
        let opening = sequence.restate(0, bodies.collect());
        let feed = Feed {
            sequence,
            log,
            updates: 0,
            stated: Instant::now(),
        };
        feed.append([opening]).await?;
        Ok(feed)
    }

    /// One transaction that changes the first so many rows.
    async fn update(&mut self, rows: u32) -> Result<()> {
        self.updates += 1;
        let number = self.updates;
        let change = |id| {
            let (before, after) = (room(id, number - 1), room(id, number));
            KeyChange {
                key: after.key(),
                before: Some(before.row()),
                after: Some(after.row()),
            }
        };
        let uuid = 7;
        let source = SourceId {
            uuid,
            tag: Tag::NONE,
        };
        self.sequence.transaction(Transaction {
            gtid: Gtid::Mysql { source, number },
            // The subscribers compare it with their own clock, which is this one.
            commit_time: i64::try_from(clock::now()?.as_micros())?,
            fingerprint: 0,
            changes: vec![(0, (0..u64::from(rows)).map(change).collect())],
        })?;
        if self.stated.elapsed() >= FULL_CUT {
            return self.attest().await;
        }
        let flushes = self.sequence.flush(CutKind::Partial);
        self.append(flushes).await
    }

    /// States the whole feed.
    async fn attest(&mut self) -> Result<()> {
        self.stated = Instant::now();
        self.sequence.attest(clock::wall_micros()?);
        let flushes = self.sequence.flush(CutKind::Full);
        self.append(flushes).await
    }

    async fn append(&self, flushes: impl IntoIterator<Item = Flush>) -> Result<()> {
        for flush in flushes {
            self.log.append(flush).await?;
        }
        Ok(())
    }
}

/// Says what the rows are made of, as the reader does before it opens an epoch.
async fn describe(store: &dyn ShardStore) -> Result<()> {
    let field = |name: &str, number, kind| Field {
        column: name.into(),
        name: name.into(),
        number,
        kind,
    };
    let described = FeedSchema {
        since: Epoch::new(1).context("there is a first epoch")?,
        schema: Schema {
            feed: FEED.into(),
            table: "live.room".into(),
            key: vec![field("id", 0, FieldKind::UInt)],
            columns: vec![
                field("uid", 1, FieldKind::UInt),
                field("area_id", 2, FieldKind::UInt),
                field("title", 3, FieldKind::Text),
                field("live_time", 4, FieldKind::UInt),
            ],
        },
        buckets: Buckets::new(BUCKETS),
    };
    let key = CellKey::Schema(FEED.into());
    let moved = move_cell(store, &key, None, described.to_bytes()).await?;
    ensure!(matches!(moved, Moved::Won(_)), "the store is not empty");
    Ok(())
}
