//! New connections: those that cannot be accepted are told of and waited for, at rest.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{info, warn};

/// Waits between attempts while the system gives no connection: without descriptors it fails at once, each time.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where clients come in.
pub(crate) struct Door {
    listener: TcpListener,
    /// Attempts in a row that failed.
    failed: u32,
}

impl Door {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Door {
            listener,
            failed: 0,
        }
    }

    /// The next connection. Dropping the future loses none.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    if self.failed > 0 {
                        info!(failed = self.failed, "connections are accepted again");
                        self.failed = 0;
                    }
                    return accepted;
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    let wait = FIRST_WAIT.saturating_mul(1 << self.failed.min(8));
                    self.failed = self.failed.saturating_add(1);
                    warn!(
                        %error,
                        failed = self.failed,
                        "no connection can be accepted; see the limit on open files (ulimit -n)"
                    );
                    sleep(wait.min(LONGEST_WAIT)).await;
                }
            }
        }
    }

    /// All of them, without TLS.
    pub(crate) fn plain(self) -> impl Stream<Item = io::Result<TcpStream>> {
        stream::unfold(self, async |mut door| {
            let (stream, _) = door.accept().await;
            // Without it a small message may wait for the one before it to be acknowledged.
            let stream = stream.set_nodelay(true).map(|()| stream);
            Some((stream, door))
        })
    }
}

/// The client has gone before it was accepted.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
