//! A naive reader: the real decoder, and the live set by key as the stream alone tells it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use onair_model::predicate::Truth;
use onair_model::value::Value;
use onair_model::{Buckets, GtidSet, Key, Row};

use super::super::commits::Rooms;
use super::super::{DemoServer, DemoSource, Room, room};
use crate::assemble::{Assembler, Limits};
use crate::bind::{FieldNumbers, bind};
use crate::change::{Step, Transaction};
use crate::encode::Encoder;
use crate::feed::{Feed, FeedConfig};
use crate::source::{Dialect, Source};
use crate::stream::{Stream, StreamError};

/// Live rows.
pub(super) type Live = BTreeMap<Key, Row>;

pub(super) struct Reader {
    stream: Stream,
    pub(super) source: DemoSource,
    pub(super) feed: Arc<Feed>,
    /// All transactions of the stream, after those that it began with.
    pub(super) delivered: GtidSet,
    /// The live set after them.
    pub(super) held: Live,
    /// Every barrier's reason.
    pub(super) barriers: Vec<String>,
}

pub(super) fn feed() -> Arc<Feed> {
    let table = room::table();
    let config = FeedConfig {
        name: "rooms".into(),
        table: table.name.clone(),
        live_when: "live_status = 1".into(),
        columns: ["uid", "area_id", "title", "live_time"]
            .map(String::from)
            .into(),
        buckets: Buckets::new(NonZeroU16::MIN),
    };
    Arc::new(bind(&config, &table, &FieldNumbers::default()).unwrap().0)
}

/// The live set of a table, by another way than stream and scan take.
pub(super) fn live(feed: &Feed, rooms: &Rooms) -> Live {
    let mut encoder = Encoder::new(feed);
    let on_air = rooms.values().filter(|room| room.live_status == 1);
    let encoded = on_air.map(|room| {
        let values = room.values();
        let pick = |ordinals: &[usize]| -> Vec<Value<'_>> {
            ordinals.iter().map(|at| values[*at]).collect()
        };
        let predicate = feed.live_when.eval(&pick(feed.live_when.columns()));
        assert_eq!(predicate, Truth::True);
        let mut row = Vec::new();
        encoder.row(&pick(&feed.exported), &mut row).unwrap();
        let key = encoder.key(&pick(&feed.key)).unwrap();
        (key, Row::new(row.into()))
    });
    encoded.collect()
}

impl Reader {
    /// Follows from what is written now; the live set is taken from the server's own table.
    pub(super) async fn open(server: &Arc<DemoServer>) -> Reader {
        let feed = feed();
        let (written, rooms) = server.content();
        let held = live(&feed, &rooms);
        Reader::resume(server, written, held).await.unwrap()
    }

    /// Follows from a known state.
    pub(super) async fn resume(
        server: &Arc<DemoServer>,
        from: GtidSet,
        held: Live,
    ) -> Result<Reader, StreamError> {
        let feed = feed();
        let source = DemoSource::new(server.clone());
        let events = source.follow(&from).await?;
        let assembler = Assembler::new([feed.clone()].into(), Dialect::Mysql, Limits::default());
        Ok(Reader {
            stream: Stream::new(events, assembler),
            source,
            feed,
            delivered: from,
            held,
            barriers: Vec::new(),
        })
    }

    /// Takes the next step; cancel safe. Returns the keys that it touched, with their rows after it.
    pub(super) async fn step(&mut self) -> Result<Vec<(Key, Option<Row>)>, StreamError> {
        let step = self.stream.next().await?;
        Ok(self.take(step))
    }

    fn take(&mut self, step: Step) -> Vec<(Key, Option<Row>)> {
        let mut touched = Vec::new();
        match step {
            Step::Transaction(Transaction { gtid, changes, .. }) => {
                assert!(!self.delivered.contains(&gtid), "{gtid} twice");
                self.delivered.insert(&gtid);
                for change in changes.into_iter().flat_map(|(_, changes)| changes) {
                    let before = match &change.after {
                        Some(row) => self.held.insert(change.key.clone(), row.clone()),
                        None => self.held.remove(&change.key),
                    };
                    assert_eq!(before, change.before, "{gtid}");
                    touched.push((change.key, change.after));
                }
            }
            Step::Barrier { gtid, reason } => {
                self.delivered.insert(&gtid.unwrap());
                self.barriers.push(reason.to_string());
            }
            Step::Heartbeat => {}
        }
        touched
    }

    /// Reads on until everything of `set` is delivered.
    pub(super) async fn reach(&mut self, set: &GtidSet) -> Result<(), StreamError> {
        while !self.delivered.contains_set(set) {
            self.step().await?;
        }
        Ok(())
    }
}

/// A room on air.
pub(super) fn on_air(id: u64, title: &str) -> Room {
    Room {
        title: Some(title.into()),
        live_status: 1,
        ..Room::new(id)
    }
}
