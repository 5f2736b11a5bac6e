//! A feed, its writer, and what store and snapshots hold of it against what the writer wrote.

use std::num::NonZeroU16;
use std::sync::Arc;

use onair_log::EventLog;
use onair_log::testing::{Content, Workload, Writer, append};
use onair_model::assembly::{Assembly, Rewind, apply};
use onair_model::schema::{Field, FieldKind, Schema};
use onair_model::{Bucket, Buckets, Key, Row, Sum, Version};
use onair_store::cells::{Moved, move_cell};
use onair_store::checkpoint::CellValue as _;
use onair_store::head::{self, CutsHead, Head, LoadError};
use onair_store::schema::FeedSchema;
use onair_store::{CellKey, ShardStore, StoreError, requests};

use super::{LINEAGE, until};

/// One feed with its log and store, nothing broken in between.
pub(crate) struct Feed {
    pub(crate) writer: Writer,
    pub(crate) workload: Workload,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ShardStore>,
    /// The highest data version of each head that was looked at: none goes back.
    highest: Vec<Version>,
}

impl Feed {
    /// An opened epoch of some rows, and their schema.
    pub(crate) async fn open(
        name: &str,
        buckets: u16,
        mut workload: Workload,
        log: Arc<dyn EventLog>,
        store: Arc<dyn ShardStore>,
    ) -> Self {
        let layout = Buckets::new(NonZeroU16::new(buckets).expect("a bucket at least"));
        let mut writer = Writer::new(name, layout, LINEAGE);
        writer.open(&*log, workload.rows()).await;
        let schema = FeedSchema {
            since: writer.version().epoch(),
            schema: schema(name),
            buckets: layout,
        };
        let key = CellKey::Schema(name.into());
        let made = move_cell(&*store, &key, None, schema.to_bytes()).await;
        assert!(matches!(made, Ok(Moved::Won(_))), "{made:?}");
        Feed {
            writer,
            workload,
            log,
            store,
            highest: vec![Version::ZERO; layout.count()],
        }
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.writer.layout.feed)
    }

    pub(crate) fn buckets(&self) -> Buckets {
        self.writer.layout.buckets
    }

    /// One transaction, flushed.
    pub(crate) async fn write(&mut self, full: bool) -> Version {
        let writes = self.workload.writes();
        let version = self.writer.commit(writes);
        self.writer.write(&*self.log, full).await;
        version
    }

    pub(crate) async fn head(&self, bucket: Bucket) -> Option<Head> {
        let cell = self.cell(&CellKey::Head(self.name(), bucket)).await?;
        Some(Head::from_bytes(&self.name(), &cell).expect("a head"))
    }

    pub(crate) async fn cuts_head(&self) -> Option<CutsHead> {
        let cell = self.cell(&CellKey::CutsHead(self.name())).await?;
        Some(CutsHead::from_bytes(&self.name(), &cell).expect("a cuts head"))
    }

    async fn cell(&self, key: &CellKey) -> Option<bytes::Bytes> {
        let cell = self.store.cell(key).await.expect("a cell");
        cell.map(|cell| cell.value)
    }

    /// A bucket's head names exactly what the bucket held at its data version, each commit of it once.
    pub(crate) async fn check_bucket(&mut self, bucket: Bucket) -> Option<Head> {
        loop {
            let head = self.head(bucket).await?;
            let state = head.state;
            let highest = &mut self.highest[bucket.index()];
            assert!(*highest <= state.d, "the head of {bucket} went back");
            *highest = state.d;
            assert!(state.d <= state.through && state.through <= self.writer.version());
            let truth = self.writer.at(state.d);
            assert_eq!(truth.d(bucket), state.d, "a data version of {bucket}");
            let (digest, count) = (state.digest, state.count);
            assert_eq!(truth.sum(bucket), Sum { digest, count });
            let mut d = head.base.d;
            for delta in &head.deltas {
                assert_eq!(delta.prev, d, "deltas of {bucket}: {head:?}");
                d = delta.d;
            }
            assert_eq!(d, state.d, "the last delta of {bucket}");
            let loaded = match head::load_bucket(&*self.store, &self.name(), &head).await {
                Ok(loaded) => loaded,
                // It may have moved on, and what it named may be gone.
                Err(LoadError::Store(StoreError::Missing { .. }))
                    if self.head(bucket).await.as_ref() != Some(&head) =>
                {
                    continue;
                }
                Err(error) => panic!("{error}: {head:?}"),
            };
            let mut rows = loaded.base;
            let mut last = loaded.base_d;
            for commit in loaded.commits {
                assert!(commit.version > last, "folded twice: {}", commit.version);
                last = commit.version;
                apply(&mut rows, &commit.events);
            }
            assert_eq!(content(rows.iter()), *truth.bucket(bucket), "{bucket}");
            return Some(head);
        }
    }

    pub(crate) async fn check(&mut self) {
        for bucket in self.buckets().all() {
            self.check_bucket(bucket).await;
        }
    }

    /// Waits until every head is at the writer's version and the cuts head at its last full cut, which must be there.
    pub(crate) async fn until_folded(&mut self) {
        let now = self.writer.version();
        let feed = &*self;
        let is_there = async || {
            let cuts = feed.cuts_head().await;
            if cuts.is_none_or(|cuts| cuts.cut.version != now) {
                return false;
            }
            for bucket in feed.buckets().all() {
                let head = feed.head(bucket).await;
                if head.is_none_or(|head| head.state.d != feed.writer.now().d(bucket)) {
                    return false;
                }
            }
            true
        };
        until(&format!("{} is folded to {now}", self.name()), is_there).await;
        self.check().await;
        self.whole_cut().await;
    }

    /// The store alone holds a whole cut, proven by its digest: the table at that version.
    pub(crate) async fn whole_cut(&self) {
        let cut = self.cuts_head().await.expect("a cuts head").cut;
        let mut assembly = Assembly::new(LINEAGE, self.buckets());
        assembly.cut(&cut);
        for (bucket, d) in &cut.touched {
            let head = self.head(*bucket).await.expect("a head");
            let (store, feed) = (&*self.store, &self.name());
            let loaded = if head.base.d > *d {
                let old = head::load_old(store, feed, &head).await.expect("segments");
                old.expect("what the cut needs is kept")
            } else {
                let loaded = head::load_bucket(store, feed, &head).await;
                loaded.expect("segments")
            };
            assembly.load(*bucket, loaded).expect("the head's digest");
        }
        let published = assembly.publish(Rewind::Wait);
        let snapshot = published.expect("a whole cut").snapshot;
        let version = snapshot.seal.version;
        assert_eq!(version, cut.version);
        let truth = self.writer.at(version).content();
        assert_eq!(content(snapshot.iter()), truth, "{version}");
    }

    /// Buckets that the merger asks for.
    pub(crate) async fn asked(&self) -> Vec<Bucket> {
        let standing = requests::standing(&*self.store, &self.name()).await;
        let standing = standing.expect("requests").into_iter();
        standing.map(|(bucket, _)| bucket).collect()
    }

    /// Does the reader's part for buckets that the merger asks for, and gives them.
    pub(crate) async fn answer(&mut self) -> Vec<Bucket> {
        let name = self.name();
        let standing = requests::standing(&*self.store, &name).await;
        let standing = standing.expect("requests");
        let buckets: Vec<Bucket> = standing.iter().map(|(bucket, _)| *bucket).collect();
        if !buckets.is_empty() {
            self.writer.write(&*self.log, false).await;
            append(&*self.log, self.writer.restate(&buckets)).await;
        }
        for (bucket, request) in &standing {
            let answered = requests::answered(&*self.store, &name, *bucket, request);
            answered.await.expect("the request is taken away");
        }
        buckets
    }

    /// Waits until the merger has asked for these buckets, and answers.
    pub(crate) async fn until_asked(&mut self, buckets: &[Bucket]) {
        let feed = &*self;
        let what = format!("{} is asked for {buckets:?}", feed.name());
        until(&what, async || feed.asked().await == buckets).await;
        self.answer().await;
    }

    /// The store was set back: heads may be lower than they were seen.
    pub(crate) fn forget_heads(&mut self) {
        self.highest.fill(Version::ZERO);
    }
}

fn schema(feed: &str) -> Schema {
    let field = |name: &str, number| Field {
        column: name.into(),
        name: name.into(),
        number,
        kind: FieldKind::UInt,
    };
    Schema {
        feed: feed.into(),
        table: "live.room".into(),
        key: vec![field("id", 0)],
        columns: vec![field("n", 1)],
    }
}

fn content<'a>(rows: impl Iterator<Item = (&'a Key, &'a Row)>) -> Content {
    rows.map(|(key, row)| (key.clone(), row.clone())).collect()
}
