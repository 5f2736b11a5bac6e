//! Connections by TLS: the transport's own would lose what a handshake failed of, since with TLS 1.3 a server refuses a
//! client's certificate when the client thinks that all is well.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::{Service, http::Uri};

use crate::tls::{Tls, TlsFault};

/// The port of `https://` without one.
const PORT: u16 = 443;

/// Connects to one `https://` server, and remembers what TLS failed of. For the transport's `connect_with_connector`,
/// which is given the `http://` form of the URL: what it speaks is inside of TLS.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    host: Arc<str>,
    port: u16,
    name: ServerName<'static>,
    fault: Arc<OnceLock<TlsFault>>,
}

impl Connector {
    /// Reads the files of `tls`.
    pub fn new(url: &Uri, tls: &Tls) -> Result<Self, TlsFault> {
        let host = url.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = tls.name.as_deref().unwrap_or(bare);
        let name = ServerName::try_from(name.to_owned()).map_err(|error| TlsFault::Unusable {
            place: name.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Connector {
            tls: TlsConnector::from(Arc::new(tls.client()?)),
            host: bare.into(),
            port: url.port_u16().unwrap_or(PORT),
            name,
            fault: Arc::default(),
        })
    }

    /// What TLS failed of, if it did.
    pub fn fault(&self) -> Option<TlsFault> {
        self.fault.get().cloned()
    }

    async fn connect(self) -> io::Result<TokioIo<Watched>> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name, stream).await;
        let stream = stream.inspect_err(|error| notice(&self.fault, error))?;
        Ok(TokioIo::new(Watched {
            stream,
            fault: self.fault,
        }))
    }
}

/// The first one is the cause of the others.
fn notice(fault: &OnceLock<TlsFault>, error: &io::Error) {
    if let Some(found) = TlsFault::of(error) {
        let _ = fault.set(found);
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A connection whose errors of TLS are noticed: the layers above keep their text at most.
pub struct Watched {
    stream: TlsStream<TcpStream>,
    fault: Arc<OnceLock<TlsFault>>,
}

impl Watched {
    fn watch<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            notice(&self.fault, error);
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        self.watch(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, from);
        self.watch(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.watch(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(polled)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}
