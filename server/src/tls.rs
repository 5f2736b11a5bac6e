//! TLS of the service, by rustls with ring.
//!
//! In: PEM files, read at the start and whenever they are said to be others. Out: connections whose handshake is done.
//! Wrong: [`TlsError`]; a handshake that fails is logged, and its client told as far as it can be.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::{self, Stream};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::info;

use crate::door::Door;

/// Handshakes under way at once; further clients wait in the system's queue. Each costs about a millisecond.
const HANDSHAKES_MAX: usize = 256;
/// A client that has not finished its handshake by then is gone, or wants to be in the way.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client that is refused has to read why.
const LINGER: Duration = Duration::from_secs(1);

/// PEM files that say who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Authorities of clients: with them a client without a certificate of theirs is refused.
    pub client_ca: Option<PathBuf>,
}

/// Who a server is, and whose clients it takes. Clones are one: what one of them reads again, all use.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{path}: cannot be read as PEM; give a file that this process may read")]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file has no certificate.
    #[error("{path}: there is no certificate in it; give a PEM file with BEGIN CERTIFICATE")]
    Empty {
        /// Where.
        path: PathBuf,
    },
    /// Certificate and key are of no use together.
    #[error(
        "{certificate} and {key}: cannot be used together; give the key that the certificate was made for"
    )]
    Identity {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// What should sign clients' certificates cannot.
    #[error("{path}: does not hold authorities that can sign certificates of clients; give theirs")]
    Authority {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Tls {
    /// Reads the files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Tls(Arc::new(ArcSwap::from_pointee(config(files)?))))
    }

    /// Reads files again, for connections from now on; those that there are go on. What is of no use changes nothing.
    pub fn read_again(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.0.store(Arc::new(config(files)?));
        Ok(())
    }
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let identity = |source| TlsError::Identity {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(identity)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refused = |source: Box<dyn std::error::Error + Send + Sync>| {
                let path = path.clone();
                TlsError::Authority { path, source }
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| refused(error.into()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| refused(error.into()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| {
        let path = files.key.clone();
        TlsError::Unreadable { path, source }
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(identity)?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        let path = path.to_owned();
        return Err(TlsError::Empty { path });
    }
    Ok(found)
}

/// Connections whose handshake is done. Dropping it ends the handshakes under way.
pub(crate) fn incoming(
    door: Door,
    tls: &Tls,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + use<> {
    let hall = Hall {
        door,
        tls: tls.clone(),
        handshakes: JoinSet::new(),
    };
    stream::unfold(hall, async |mut hall| Some((hall.next().await, hall)))
}

/// Between the door and the service.
struct Hall {
    door: Door,
    tls: Tls,
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
}

impl Hall {
    /// The next connection. Who is through goes before who knocks.
    async fn next(&mut self) -> io::Result<TlsStream<TcpStream>> {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => {
                    if let Some(stream) = done.map_err(io::Error::other)? {
                        return Ok(stream);
                    }
                }
                (stream, peer) = self.door.accept(), if self.handshakes.len() < HANDSHAKES_MAX => {
                    let acceptor = TlsAcceptor::from(self.tls.0.load_full());
                    self.handshakes.spawn(async move {
                        let greeted = timeout(HANDSHAKE, greet(acceptor, stream)).await;
                        let refused = match greeted {
                            Ok(Ok(stream)) => return Some(stream),
                            Ok(Err(error)) => error,
                            Err(_) => io::ErrorKind::TimedOut.into(),
                        };
                        info!(%peer, error = %refused, "no TLS with a client");
                        None
                    });
                }
            }
        }
    }
}

async fn greet(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    stream.peek(&mut first).await?;
    // Every HTTP/2 client begins with "PRI", every TLS client with 22.
    if first == *b"P" {
        return Err(turn_away(stream).await);
    }
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        // The alert that says why is on its way; closing at once, with unread bytes, would take it back.
        Err((error, mut stream)) => {
            // It is refused anyhow, whether it reads why or not.
            let _ = timeout(LINGER, leave(&mut stream)).await;
            Err(error)
        }
    }
}

/// Ends our side and waits until the client has gone.
async fn leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut passed_over = [0; 1024];
    while stream.read(&mut passed_over).await? > 0 {}
    Ok(())
}

/// Tells a client that speaks HTTP/2 in the clear to use TLS, in answer to its first request: one that is told before it
/// asks only sees a connection that ends.
async fn turn_away(mut stream: TcpStream) -> io::Error {
    let told = async {
        stream.write_all(&frame(SETTINGS, &[])).await?;
        read_request(&mut stream).await?;
        // The last stream taken: none.
        let mut goaway = vec![0, 0, 0, 0, 0, 0, 0, INADEQUATE_SECURITY];
        goaway.extend(b"this port speaks TLS: write https://");
        stream.write_all(&frame(GOAWAY, &goaway)).await?;
        match timeout(LINGER, leave(&mut stream)).await {
            Ok(left) => left,
            Err(_) => Ok(()),
        }
    };
    match told.await {
        Ok(()) => io::Error::new(io::ErrorKind::InvalidData, "the client speaks no TLS"),
        Err(error) => error,
    }
}

// RFC 9113, sections 6 and 7.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const INADEQUATE_SECURITY: u8 = 0xc;
const PREFACE: usize = 24;

/// A frame of the connection: length, type, no flags, stream 0.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, content.len() as u8, kind, 0, 0, 0, 0, 0];
    frame.extend(content);
    frame
}

/// Reads on until a request begins.
async fn read_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut stream = tokio::io::BufReader::new(stream);
    stream.read_exact(&mut [0; PREFACE]).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [high, middle, low, kind, ..] = header;
        if kind == HEADERS {
            return Ok(());
        }
        let length = u32::from_be_bytes([0, high, middle, low]);
        let content = (&mut stream).take(length.into());
        tokio::io::copy(&mut { content }, &mut tokio::io::sink()).await?;
    }
}
