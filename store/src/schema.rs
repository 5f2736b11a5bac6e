//! The schema of a feed: written by the reader before the first record of the first epoch whose rows are of it, read by
//! servers when they come to an epoch.

use std::sync::Arc;

use bytes::Bytes;
use onair_model::schema::Schema;
use onair_model::{Buckets, Epoch};
use onair_proto::convert::{self, ConvertError};
use onair_proto::v1;
use prost::Message;

use crate::checkpoint::{CellValue, Held, read};
use crate::{CellKey, ShardStore, StoreError};

/// A feed's schema, from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSchema {
    /// The first epoch whose rows are of it.
    pub since: Epoch,
    /// The schema.
    pub schema: Schema,
    /// How many buckets the feed has.
    pub buckets: Buckets,
}

impl FeedSchema {
    pub(crate) fn to_wire(&self) -> v1::FeedSchema {
        v1::FeedSchema {
            since: self.since.get(),
            schema: Some(convert::schema_to_wire(&self.schema, self.buckets.count())),
        }
    }

    pub(crate) fn from_wire(wire: v1::FeedSchema) -> Result<Self, ConvertError> {
        let schema = wire.schema.ok_or(ConvertError::Field("schema"))?;
        let (schema, buckets) = convert::schema_from_wire(schema)?;
        let buckets = u16::try_from(buckets)
            .ok()
            .and_then(std::num::NonZeroU16::new);
        Ok(FeedSchema {
            since: Epoch::new(wire.since).ok_or(ConvertError::Field("since"))?,
            schema,
            buckets: Buckets::new(buckets.ok_or(ConvertError::Field("buckets"))?),
        })
    }
}

impl CellValue for FeedSchema {
    fn to_bytes(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    fn from_bytes(bytes: &Bytes) -> Result<Self, ConvertError> {
        FeedSchema::from_wire(v1::FeedSchema::decode(bytes.clone())?)
    }
}

/// What stands for a feed.
pub async fn held(
    store: &dyn ShardStore,
    feed: &Arc<str>,
) -> Result<Option<Held<FeedSchema>>, StoreError> {
    read(store, &CellKey::Schema(Arc::clone(feed))).await
}
