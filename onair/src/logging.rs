//! Logs, to standard error.

use std::io::{self, Write};
use std::sync::Arc;

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;

use crate::config::LoggingConfig;

/// Changes what is logged while the process runs.
pub(crate) struct Levels(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl Levels {
    /// From now on, by a level that was checked with the configuration.
    pub(crate) fn set(&self, level: &str) {
        (self.0)(EnvFilter::new(level));
    }
}

/// Logs from here on; lines go above the status line.
pub(crate) fn start(config: &LoggingConfig, status: &ProgressBar, colour: bool) -> Levels {
    let writer = Above(Arc::new(status.clone()));
    let builder = tracing_subscriber::fmt()
        // Levels were checked with the configuration.
        .with_env_filter(EnvFilter::new(&config.level))
        .with_ansi(colour)
        .with_writer(move || writer.clone())
        .with_filter_reloading();
    let handle = builder.reload_handle();
    // A second subscriber in one process is refused, which only tests could try; and a filter cannot be changed only once
    // the subscriber is gone, with the process.
    match config.format.as_str() {
        "json" => {
            let builder = builder.json();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Levels(Box::new(move |filter| drop(handle.reload(filter))))
        }
        _ => {
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Levels(Box::new(move |filter| drop(handle.reload(filter))))
        }
    }
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
