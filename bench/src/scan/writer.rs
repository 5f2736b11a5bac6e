//! Updates at a fixed rate beside what is measured.
//!
//! They change what clients get and never which rows are live: then the number of live rows is the same in every view,
//! also in one that is put together from ranges which were read one after the other, and every program can be checked
//! while they go on. Half of them hit live rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The title is as long as before.
const UPDATE: &str = "UPDATE live.room SET area_id = area_id + 1, \
     title = CONCAT('Late night jazz and tea, ', LPAD(?, 7, '0')) WHERE id = ?";
const SEED: u64 = 1;

/// A connection at work, until [`Writer::end`] or the drop of this.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    written: AtomicU64,
}

impl Writer {
    /// So many a second, each one row of a table with keys from 1 to `rows`, of which one in so many is live.
    pub(super) fn start(url: &str, rate: u32, (rows, live_one_in): (u64, u64)) -> Result<Self> {
        let opts = Opts::from_url(url)?;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let spacing = Duration::from_secs(1) / rate;
        let thread = thread::spawn(move || {
            runtime.block_on(write(opts, spacing, (rows, live_one_in), &seen))
        });
        Ok(Writer {
            shared,
            thread: Some(thread),
        })
    }

    /// Committed so far.
    pub(super) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Ends it, and expects that it wrote.
    pub(super) fn end(mut self) -> Result<()> {
        self.join()?;
        ensure!(self.written() > 0, "nothing was written beside the scans");
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread.join().ok().context("the writer panicked")?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Dropped where something else went wrong, which is what should be said.
        let _ = self.join();
    }
}

/// At times that were fixed before; at once when it is late.
async fn write(
    opts: Opts,
    spacing: Duration,
    (rows, live_one_in): (u64, u64),
    shared: &Shared,
) -> Result<()> {
    let mut conn = Conn::new(opts).await?;
    let update = conn.prep(UPDATE).await?;
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut due = Instant::now();
    while !shared.is_over.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due.into()).await;
        due += spacing;
        let number = rng.random_range(0..10_000_000_u64);
        let key = match number % 2 {
            0 => rng.random_range(1..=rows),
            _ => live_one_in * rng.random_range(1..=rows / live_one_in),
        };
        conn.exec_drop(&update, (number, key)).await?;
        shared.written.fetch_add(1, Ordering::Relaxed);
    }
    conn.disconnect().await?;
    Ok(())
}
