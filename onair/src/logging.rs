//! Logs, to standard error.

use std::io::{self, Write};
use std::sync::Arc;

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
    let writer = Above(Arc::new(status.clone()));
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

/// Standard error, above the line that keeps itself up to date.
#[derive(Clone)]
struct Above(Arc<ProgressBar>);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
