//! Entries as bytes, the same in every log.

use bytes::Bytes;
use onair_model::{Bucket, CutRecord, Record};
use onair_proto::{convert, v1};
use prost::Message;

use crate::{Partition, Payload};

/// A record of `bucket`.
pub(crate) fn record(bucket: Bucket, record: &Record) -> Vec<u8> {
    convert::record_to_wire(bucket, record).encode_to_vec()
}

/// A cut.
pub(crate) fn cut(cut: &CutRecord) -> Vec<u8> {
    convert::cut_to_wire(cut).encode_to_vec()
}

/// What these bytes are in this partition.
pub(crate) fn decode(partition: Partition, bytes: Bytes) -> Payload {
    let decoded = match partition {
        Partition::Cuts => v1::Cut::decode(bytes)
            .map_err(convert::ConvertError::from)
            .and_then(convert::cut_from_wire)
            .map(Payload::Cut),
        Partition::Bucket(bucket) => v1::Record::decode(bytes)
            .map_err(convert::ConvertError::from)
            .and_then(convert::record_from_wire)
            .map(|(of, record)| {
                if of == bucket {
                    Payload::Record(record)
                } else {
                    Payload::Garbage(format!("a record of bucket {of}"))
                }
            }),
    };
    decoded.unwrap_or_else(|err| Payload::Garbage(err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onair_model::Bucket;

    #[test]
    fn what_is_no_record_of_the_partition_is_garbage() {
        let (one, two) = (Bucket::new(1), Bucket::new(2));
        let wire = v1::Record {
            lineage: vec![0; 16].into(),
            epoch: 1,
            body: Some(v1::record::Body::Carry(v1::Carry { old: 0 })),
            digest: vec![0; 16].into(),
            bucket: 1,
            ..v1::Record::default()
        };
        let read = |partition, bytes: Vec<u8>| decode(partition, bytes.into());
        let record = wire.encode_to_vec();
        let ours = read(Partition::Bucket(one), record.clone());
        assert!(matches!(ours, Payload::Record(_)), "{ours:?}");
        let torn = record[..record.len() - 3].to_vec();
        for (partition, bytes) in [
            (Partition::Bucket(two), record.clone()),
            (Partition::Bucket(one), torn),
            (Partition::Bucket(one), Vec::new()),
            (Partition::Cuts, record),
        ] {
            let found = read(partition, bytes);
            assert!(matches!(found, Payload::Garbage(_)), "{found:?}");
        }
    }
}
