//! The signals that a process answers.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// Those that end it in peace, and the one that asks to read the configuration again.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end.
    End,
    /// To read the configuration again.
    Reload,
}

/// Ctrl-C or SIGTERM, of a verb that follows something: the exit code where the end then has no answer.
pub(crate) async fn interrupted() -> Exit {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => Exit::Terminated,
        _ = tokio::signal::ctrl_c() => Exit::Interrupted,
    }
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let open = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("signals cannot be received: {error}; start it again"),
                )
            })
        };
        Ok(Signals {
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    /// The next one. Where nothing can be read again each of them ends the process: a terminal that is closed, too. Cancel
    /// safe.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The next one that ends the process; others are passed over.
    pub(crate) async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}
