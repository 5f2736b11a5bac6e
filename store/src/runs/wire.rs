//! Runs on the wire, where they look as in their cells.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use onair_model::{Key, Row, Version};
use onair_proto::convert::{self, ConvertError};
use onair_proto::v1;
use prost::Message;

use super::{Difference, Drift, Origin, Run, Sides, State, Wish};
use crate::checkpoint::CellValue;

impl Run {
    /// As it goes over the wire and into its cell.
    pub fn to_wire(&self) -> v1::Run {
        v1::Run {
            id: self.id.to_string(),
            feed: self.feed.to_string(),
            origin: self.origin.to_wire() as i32,
            dry_run: self.dry_run,
            rate_max: self.rate_max.map_or(0, NonZeroU64::get),
            state: self.state.to_wire() as i32,
            wish: self.wish.map_or(0, |wish| wish.to_wire() as i32),
            asked: self.asked,
            started: self.started.unwrap_or(0),
            ended: self.ended.unwrap_or(0),
            reader: self.reader.clone(),
            begun: self.begun,
            rows_expected: self.rows_expected,
            rows_scanned: self.rows_scanned,
            database_ms: u64::try_from(self.database.as_millis()).unwrap_or(u64::MAX),
            database_bytes: self.database_bytes,
            compared: self.compared.map_or(0, Version::get),
            drift_before: self.drift_before,
            drift_after: self.drift_after,
            drift: self.drift.as_ref().map(Drift::to_wire),
            proven: self.proven.map(convert::proven_to_wire),
            detail: self.detail.clone(),
        }
    }

    /// From the wire or its cell.
    pub fn from_wire(wire: v1::Run) -> Result<Self, ConvertError> {
        let time = |micros: i64| (micros != 0).then_some(micros);
        Ok(Run {
            id: wire.id.into(),
            feed: wire.feed.into(),
            origin: Origin::from_wire(wire.origin)?,
            dry_run: wire.dry_run,
            rate_max: NonZeroU64::new(wire.rate_max),
            state: State::from_wire(wire.state)?,
            wish: match wire.wish {
                0 => None,
                wish => Some(Wish::from_wire(wish)?),
            },
            asked: wire.asked,
            started: time(wire.started),
            ended: time(wire.ended),
            reader: wire.reader,
            begun: wire.begun,
            rows_expected: wire.rows_expected,
            rows_scanned: wire.rows_scanned,
            database: Duration::from_millis(wire.database_ms),
            database_bytes: wire.database_bytes,
            compared: match wire.compared {
                0 => None,
                version => Some(convert::version(version)?),
            },
            drift_before: wire.drift_before,
            drift_after: wire.drift_after,
            drift: wire.drift.map(Drift::from_wire).transpose()?,
            proven: wire.proven.map(convert::proven_from_wire).transpose()?,
            detail: wire.detail,
        })
    }
}

impl CellValue for Run {
    fn to_bytes(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        Run::from_wire(v1::Run::decode(bytes.clone())?)
    }
}

impl Drift {
    fn to_wire(&self) -> v1::Drift {
        let example = |difference: &Difference| {
            use v1::difference::Kind;
            let bytes = |row: &Row| row.bytes().clone();
            let (kind, source_row, held_row) = match &difference.sides {
                Sides::Missing { source } => (Kind::Missing, bytes(source), Bytes::new()),
                Sides::Extra { held } => (Kind::Extra, Bytes::new(), bytes(held)),
                Sides::Stale { source, held } => (Kind::Stale, bytes(source), bytes(held)),
            };
            v1::Difference {
                kind: kind as i32,
                key: difference.key.to_bytes(),
                source_row,
                held_row,
            }
        };
        v1::Drift {
            missing: self.missing,
            extra: self.extra,
            stale: self.stale,
            examples: self.examples.iter().map(example).collect(),
        }
    }

    fn from_wire(wire: v1::Drift) -> Result<Self, ConvertError> {
        let example = |wire: v1::Difference| {
            use v1::difference::Kind;
            let (source, held) = (Row::new(wire.source_row), Row::new(wire.held_row));
            let sides = match Kind::try_from(wire.kind) {
                Ok(Kind::Missing) => Sides::Missing { source },
                Ok(Kind::Extra) => Sides::Extra { held },
                Ok(Kind::Stale) => Sides::Stale { source, held },
                Ok(Kind::Unspecified) | Err(_) => return Err(ConvertError::Field("kind")),
            };
            Ok(Difference {
                key: Key::from_bytes(wire.key),
                sides,
            })
        };
        Ok(Drift {
            missing: wire.missing,
            extra: wire.extra,
            stale: wire.stale,
            examples: wire
                .examples
                .into_iter()
                .map(example)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Origin {
    const fn to_wire(self) -> v1::run::Origin {
        match self {
            Origin::Operator => v1::run::Origin::Operator,
            Origin::Schedule => v1::run::Origin::Schedule,
            Origin::Epoch => v1::run::Origin::Epoch,
            Origin::Merger => v1::run::Origin::Merger,
        }
    }

    fn from_wire(wire: i32) -> Result<Self, ConvertError> {
        Ok(match v1::run::Origin::try_from(wire) {
            Ok(v1::run::Origin::Operator) => Origin::Operator,
            Ok(v1::run::Origin::Schedule) => Origin::Schedule,
            Ok(v1::run::Origin::Epoch) => Origin::Epoch,
            Ok(v1::run::Origin::Merger) => Origin::Merger,
            Ok(v1::run::Origin::Unspecified) | Err(_) => return Err(ConvertError::Field("origin")),
        })
    }
}

impl State {
    const fn to_wire(self) -> v1::run::State {
        match self {
            State::Asked => v1::run::State::Asked,
            State::Running => v1::run::State::Running,
            State::Paused => v1::run::State::Paused,
            State::Held => v1::run::State::Held,
            State::Done => v1::run::State::Done,
            State::Cancelled => v1::run::State::Cancelled,
            State::Failed => v1::run::State::Failed,
        }
    }

    fn from_wire(wire: i32) -> Result<Self, ConvertError> {
        Ok(match v1::run::State::try_from(wire) {
            Ok(v1::run::State::Asked) => State::Asked,
            Ok(v1::run::State::Running) => State::Running,
            Ok(v1::run::State::Paused) => State::Paused,
            Ok(v1::run::State::Held) => State::Held,
            Ok(v1::run::State::Done) => State::Done,
            Ok(v1::run::State::Cancelled) => State::Cancelled,
            Ok(v1::run::State::Failed) => State::Failed,
            Ok(v1::run::State::Unspecified) | Err(_) => return Err(ConvertError::Field("state")),
        })
    }
}

impl Wish {
    /// For the wire.
    pub const fn to_wire(self) -> v1::run::Wish {
        match self {
            Wish::Pause => v1::run::Wish::Pause,
            Wish::Resume => v1::run::Wish::Resume,
            Wish::Cancel => v1::run::Wish::Cancel,
            Wish::Approve => v1::run::Wish::Approve,
        }
    }

    /// From the wire.
    pub fn from_wire(wire: i32) -> Result<Self, ConvertError> {
        Ok(match v1::run::Wish::try_from(wire) {
            Ok(v1::run::Wish::Pause) => Wish::Pause,
            Ok(v1::run::Wish::Resume) => Wish::Resume,
            Ok(v1::run::Wish::Cancel) => Wish::Cancel,
            Ok(v1::run::Wish::Approve) => Wish::Approve,
            Ok(v1::run::Wish::Unspecified) | Err(_) => return Err(ConvertError::Field("wish")),
        })
    }
}
