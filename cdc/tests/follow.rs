//! A decoder at the end of a server's binlog.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use onair_cdc::change::KeyChange;
use onair_cdc::decode::{DecodeError, Decoder, Net};
use onair_cdc::feed::Feed;
use onair_cdc::mysql::MysqlSource;
use onair_cdc::source::{Dialect, EventStream, RawEvent, Source as _};
use onair_xtask::servers::Server;

use crate::servers::read_until;

/// Events from where it was made on, decoded for some feeds.
pub(crate) struct Follower {
    events: Box<dyn EventStream>,
    decoder: Decoder,
    net: Net,
    /// Bodies of table maps and rows events as they came.
    pub(crate) recorded: Vec<RawEvent>,
}

/// What a transaction did, by feed.
pub(crate) type Changes = Vec<(usize, Vec<KeyChange>)>;

impl Follower {
    pub(crate) async fn new(
        server: &Server,
        source: &MysqlSource,
        feeds: &[Arc<Feed>],
    ) -> Result<Self> {
        let from = source.identity().await?.executed;
        Ok(Follower {
            events: source.follow(&from).await?,
            decoder: Decoder::new(feeds.into()).speaking(dialect(server)),
            net: Net::default(),
            recorded: Vec::new(),
        })
    }

    /// The next transaction that changes rows in the feeds' database (it ends with an XID event); other tests use
    /// the same server. After an error the rest of its transaction is passed over.
    pub(crate) async fn next(&mut self) -> Result<Result<Changes, DecodeError>> {
        loop {
            let events = read_until(&mut *self.events, |event| event.kind == 16).await?;
            let database = &self.decoder.feeds()[0].config.table.database;
            let ours = |event: &RawEvent| {
                let name = event.body.get(9..9 + database.len());
                event.kind == 19 && name == Some(database.as_bytes())
            };
            let is_ours = events.iter().any(ours);
            let outcome = self.decode(events);
            let changes = self.net.take();
            if is_ours {
                return Ok(outcome.map(|()| changes));
            }
            outcome.context("rows of others are passed over")?;
        }
    }

    fn decode(&mut self, events: Vec<RawEvent>) -> Result<(), DecodeError> {
        let mut outcome = Ok(());
        for event in events {
            let decoded = match event.kind {
                19 => self.decoder.table_map(&event.body),
                23..=25 | 30..=32 | 39 => self.decoder.rows(event.kind, &event.body, &mut self.net),
                _ => continue,
            };
            self.recorded.push(event);
            outcome = outcome.and(decoded);
        }
        outcome
    }

    /// The next transaction's changes to the only feed.
    pub(crate) async fn changes(&mut self) -> Result<Vec<KeyChange>> {
        let mut changes = self.next().await?.context("decodes")?;
        Ok(changes
            .pop()
            .map(|(_, changes)| changes)
            .unwrap_or_default())
    }

    /// The reason why the next transaction is a barrier.
    pub(crate) async fn barrier(&mut self) -> Result<String> {
        match self.next().await? {
            Err(DecodeError::Barrier(reason)) => Ok(reason.to_string()),
            other => anyhow::bail!("{other:?} instead of a barrier"),
        }
    }

    pub(crate) fn replaced(&self) -> u64 {
        self.decoder.replaced()
    }
}

pub(crate) fn dialect(server: &Server) -> Dialect {
    if server.flavor().is_mariadb() {
        Dialect::Mariadb
    } else {
        Dialect::Mysql
    }
}
