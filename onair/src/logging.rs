//! Logs, to standard error.

use std::io::{self, Write};
use std::sync::Arc;

use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;

use crate::config::LoggingConfig;

/// Logs from here on; lines go above the status line.
pub(crate) fn start(config: &LoggingConfig, status: &ProgressBar, colour: bool) {
    let writer = Above(Arc::new(status.clone()));
    let builder = tracing_subscriber::fmt()
        // Levels were checked with the configuration.
        .with_env_filter(EnvFilter::new(&config.level))
        .with_ansi(colour)
        .with_writer(move || writer.clone());
    // A second subscriber in one process is refused; only tests could try.
    let _ = match config.format.as_str() {
        "json" => builder.json().try_init(),
        _ => builder.try_init(),
    };
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
