//! The contract, bare and under the faulty decorator.

use std::cell::RefCell;

use onair_log::contract;
use onair_log::faulty::{Faults, Faulty};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_keeps_the_contract() {
    let Some(server) = shared() else { return };
    let one = log(&settings(server));
    open(&one, "first").await;
    contract::exact(async || Arc::clone(&one) as Arc<dyn EventLog>).await;
    let status = one.status();
    println!("{status:?}");
    assert_eq!(
        (status.producers, status.under_way, status.waiting),
        (1, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_under_faults_keeps_the_contract() {
    let Some(server) = shared() else { return };
    let inner = log(&settings(server));
    open(&inner, "first").await;
    let made = RefCell::new(Vec::new());
    contract::resolved(async || {
        let seed = made.borrow().len() as u64;
        let log = Arc::new(Faulty::new(Arc::clone(&inner), seed, Faults::OFTEN));
        made.borrow_mut().push(Arc::clone(&log));
        log as Arc<dyn EventLog>
    })
    .await;
    let counts = made.take().into_iter().map(|log| log.counts());
    let counts = counts.reduce(|sum, more| sum + more).unwrap();
    println!("{counts}");
    assert_eq!(
        counts.never(),
        ["dropped"],
        "the others must all have fired"
    );
}
