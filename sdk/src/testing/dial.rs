//! Connections as pipes in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::codegen::{Service, http::Uri};

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// Bytes that a pipe holds in each direction.
const PIPE: usize = 256 * 1024;

/// The client's end of a fake server.
pub(crate) struct Dial {
    name: Arc<str>,
    accept: mpsc::Sender<io::Result<DuplexStream>>,
    reachable: Arc<AtomicBool>,
}

impl Dial {
    pub(crate) fn new() -> (Self, mpsc::Receiver<io::Result<DuplexStream>>) {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (accept, incoming) = mpsc::channel(BACKLOG);
        let name = format!("fake-{number}").into();
        (
            Dial {
                name,
                accept,
                reachable: Arc::new(AtomicBool::new(true)),
            },
            incoming,
        )
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    pub(crate) fn set_reachable(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector {
            accept: self.accept.clone(),
            reachable: self.reachable.clone(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Connector {
    accept: mpsc::Sender<io::Result<DuplexStream>>,
    reachable: Arc<AtomicBool>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { accept, reachable } = self.clone();
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            if !reachable.load(Ordering::Relaxed) {
                return Err(refused());
            }
            let (ours, theirs) = tokio::io::duplex(PIPE);
            accept.send(Ok(theirs)).await.map_err(|_| refused())?;
            Ok(TokioIo::new(ours))
        })
    }
}
