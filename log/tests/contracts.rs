//! The contract on the memory log, bare and under the faulty decorator.

use std::cell::RefCell;
use std::sync::Arc;

use onair_log::faulty::{Counts, Faults, Faulty};
use onair_log::memory::{MemoryConfig, MemoryLog};
use onair_log::{EventLog, contract};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    contract::exact(async || {
        Arc::new(MemoryLog::new(MemoryConfig::default())) as Arc<dyn EventLog>
    })
    .await;
    let dir = TempDir::new().unwrap();
    let config = MemoryConfig {
        tail: Some(dir.path().join("tail")),
        ..MemoryConfig::default()
    };
    let one = Arc::new(MemoryLog::new(config));
    contract::exact(async || Arc::clone(&one) as Arc<dyn EventLog>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_under_faults_keeps_the_contract() {
    let mut total = Counts::default();
    for seed in 1..=2 {
        let made = RefCell::new(Vec::new());
        contract::resolved(async || {
            let inner = Arc::new(MemoryLog::new(MemoryConfig::default()));
            let number = made.borrow().len() as u64;
            let log = Arc::new(Faulty::new(inner, seed * 100 + number, Faults::OFTEN));
            made.borrow_mut().push(Arc::clone(&log));
            log as Arc<dyn EventLog>
        })
        .await;
        let counts = made.take().into_iter().map(|log| log.counts());
        let counts = counts.reduce(|sum, more| sum + more).unwrap();
        println!("seed {seed}: {counts}");
        total = total + counts;
    }
    assert_eq!(total.never(), ["dropped"], "the others must all have fired");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "never came")]
async fn a_log_that_loses_records_does_not_keep_the_contract() {
    let faults = Faults {
        dropped: 0.2,
        ..Faults::NONE
    };
    contract::resolved(async || {
        let inner = Arc::new(MemoryLog::new(MemoryConfig::default()));
        Arc::new(Faulty::new(inner, 1, faults)) as Arc<dyn EventLog>
    })
    .await;
}
