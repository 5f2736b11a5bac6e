//! Two questions that librdkafka answers and its Rust wrapper does not ask: what a topic is, and where its partitions
//! begin and end. The one place with `unsafe` in this crate. Both block: not for the threads of tokio.

#![expect(
    unsafe_code,
    reason = "the wrapper has neither DescribeTopics nor OffsetsForTimes for a client that is no consumer"
)]

use std::ffi::{CStr, CString, c_int};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

/// A topic as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// Its UUID in base64: another one for a topic that was deleted and made again.
    pub(super) id: String,
    /// Copies of each partition.
    pub(super) replicas: Vec<usize>,
}

/// A native object and what frees it.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made by the function that belongs to this destructor, not null, and freed here alone.
        unsafe { self.1(self.0) }
    }
}

fn owned<T>(made: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Owned<T>, String> {
    if made.is_null() {
        return Err("librdkafka gave nothing".into());
    }
    Ok(Owned(made, free))
}

fn millis(timeout: Duration) -> c_int {
    timeout.as_millis().try_into().unwrap_or(c_int::MAX)
}

/// What the topic is; `None` when there is none of that name.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<Described>, String> {
    let name = CString::new(topic).map_err(|err| err.to_string())?;
    let mut names = [name.as_ptr()];
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`; every object is checked for null, and freed once, after its last use (in
    // reverse order of their making); what belongs to the event is copied before it is freed.
    unsafe {
        let topics = owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        let options = owned(
            sys::rd_kafka_AdminOptions_new(
                rk,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        let mut said = [0; 256];
        let code = sys::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            millis(timeout),
            said.as_mut_ptr(),
            said.len(),
        );
        failed(code)?;
        let queue = owned(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy)?;
        sys::rd_kafka_DescribeTopics(rk, topics.0, options.0, queue.0);
        // The request has the same limit and then answers with an error.
        let event = owned(
            sys::rd_kafka_queue_poll(queue.0, millis(timeout).saturating_add(1000)),
            sys::rd_kafka_event_destroy,
        )
        .map_err(|_| format!("no answer within {timeout:?}"))?;
        if failed(sys::rd_kafka_event_error(event.0)).is_err() {
            let text = sys::rd_kafka_event_error_string(event.0);
            return Err(CStr::from_ptr(text).to_string_lossy().into_owned());
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err("librdkafka answered another question".into());
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count != 1 {
            return Err(format!("{count} topics of one name"));
        }
        read(*described)
    }
}

/// # Safety
/// `topic` belongs to an answer that is not freed yet.
unsafe fn read(
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> Result<Option<Described>, String> {
    // SAFETY: what the getters give belongs to the answer, and is copied here.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            let code: RDKafkaErrorCode = sys::rd_kafka_error_code(error).into();
            match code {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition => return Ok(None),
                code => return Err(code.to_string()),
            }
        }
        let id = sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic));
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &mut count);
        let mut replicas = Vec::with_capacity(count);
        for index in 0..count {
            let mut copies = 0;
            sys::rd_kafka_TopicPartitionInfo_replicas(*partitions.add(index), &mut copies);
            replicas.push(copies);
        }
        Ok(Some(Described {
            id: CStr::from_ptr(id).to_string_lossy().into_owned(),
            replicas,
        }))
    }
}

fn failed(code: sys::rd_kafka_resp_err_t) -> Result<(), String> {
    match code.into() {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code.to_string()),
    }
}

/// First and next offset of these partitions, in their order. A topic that was just made, or has moved, is asked about
/// again until the time is up.
pub(super) fn ends<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<Vec<(u64, u64)>, String> {
    let end = Instant::now() + timeout;
    let ask = |which| loop {
        let left = end.saturating_duration_since(Instant::now());
        match offsets(client, topic, partitions, which, left) {
            Err(NoAnswer { passes: true, .. }) if left > AGAIN => thread::sleep(AGAIN),
            answer => break answer.map_err(|no| no.reason),
        }
    };
    let low = ask(Offset::Beginning)?;
    let high = ask(Offset::End)?;
    Ok(low.into_iter().zip(high).collect())
}

/// Between two questions of the same.
const AGAIN: Duration = Duration::from_millis(20);

struct NoAnswer {
    /// Another moment may have one.
    passes: bool,
    reason: String,
}

fn no_answer(code: RDKafkaErrorCode, about: &str) -> NoAnswer {
    use RDKafkaErrorCode as Code;
    NoAnswer {
        passes: matches!(
            code,
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::OffsetNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::BrokerTransportFailure
                | Code::KafkaStorageError
        ),
        reason: format!("{about}{code}"),
    }
}

/// One request a broker, whatever the number of partitions.
fn offsets<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[i32],
    which: Offset,
    timeout: Duration,
) -> Result<Vec<u64>, NoAnswer> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let odd = |reason: String| NoAnswer {
        passes: false,
        reason,
    };
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, *partition, which)
            .map_err(|err| odd(err.to_string()))?;
    }
    // SAFETY: client and list live through the call, which keeps neither.
    let code = unsafe {
        sys::rd_kafka_offsets_for_times(client.native_ptr(), list.ptr(), millis(timeout))
    };
    match code.into() {
        RDKafkaErrorCode::NoError => {}
        code => return Err(no_answer(code, "")),
    }
    let mut offsets = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let about = format!("partition {partition}: ");
        let found = list.find_partition(topic, *partition);
        let found = found.ok_or_else(|| odd(format!("{about}no answer")))?;
        if let Err(error) = found.error() {
            let code = error.rdkafka_error_code();
            return Err(no_answer(code.unwrap_or(RDKafkaErrorCode::Unknown), &about));
        }
        match found.offset() {
            Offset::Offset(offset) if offset >= 0 => offsets.push(offset.unsigned_abs()),
            other => return Err(odd(format!("{about}it is said to be at {other:?}"))),
        }
    }
    Ok(offsets)
}
