//! Logs, to standard error, by a thread of their own: whoever reads them may be slow, stuck or gone, and nothing else
//! waits for it. Lines that nobody takes are dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::config::LoggingConfig;

/// Changes what is logged while the process runs.
pub(crate) struct Levels(reload::Handle<EnvFilter, Registry>);

impl Levels {
    /// From now on, by a level that was checked with the configuration.
    pub(crate) fn set(&self, level: &str) {
        // It fails only once the subscriber is gone, with the process.
        let _ = self.0.reload(EnvFilter::new(level));
    }
}

/// Logs from here on; lines go above the status line.
pub(crate) fn start(config: &LoggingConfig, status: &ProgressBar, colour: bool) -> Levels {
    let writer = Lines::start(status.clone());
    // Levels were checked with the configuration.
    let (filter, levels) = reload::Layer::new(EnvFilter::new(&config.level));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colour)
        .with_writer(move || writer.clone());
    let lines = match config.format.as_str() {
        "json" => lines.json().boxed(),
        _ => lines.boxed(),
    };
    // A second subscriber in one process is refused; only tests could try.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    Levels(levels)
}

/// Lines that may wait to be written: some seconds of the loudest level.
const WAITING_MAX: usize = 4096;
/// At the end what waits is written for at most this long.
const FINISH: Duration = Duration::from_millis(200);

/// What the writing thread is given.
enum Line {
    Text(Vec<u8>),
    /// All before it is written: tells whoever waits.
    Mark(SyncSender<()>),
}

/// Where the lines go in.
static OPEN: OnceLock<SyncSender<Line>> = OnceLock::new();

/// Waits until what was logged is written, or nobody takes it.
pub(crate) fn finish() {
    let Some(lines) = OPEN.get() else { return };
    let (done, told) = sync_channel(1);
    if lines.try_send(Line::Mark(done)).is_ok() {
        // Either way it is the end.
        let _ = told.recv_timeout(FINISH);
    }
}

/// Standard error, above the line that keeps itself up to date.
#[derive(Clone)]
struct Lines {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn start(status: ProgressBar) -> Self {
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let write = move || write(&status, &waiting, &counted);
        // It ends with the process. Without it the lines are lost, as where nobody reads them.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(write);
        // Set once, but in tests.
        let _ = OPEN.set(lines.clone());
        Lines { lines, lost }
    }
}

fn write(status: &ProgressBar, waiting: &Receiver<Line>, lost: &AtomicU64) {
    let put = |text: &[u8]| {
        // There is nobody else to tell.
        let _ = status.suspend(|| io::stderr().write_all(text));
    };
    for line in waiting {
        match line {
            Line::Text(text) => put(&text),
            Line::Mark(done) => {
                let _ = done.try_send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            put(format!(
                "onair: {lost} lines of the log were lost: they came faster than they were taken\n"
            )
            .as_bytes());
        }
    }
}

impl Write for Lines {
    /// A whole line, as the subscriber gives it. Never waits, never fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Line::Text(bytes.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
