//! TLS to servers: how they are known and we by them, and what a handshake fails of, in words.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// How servers behind `https://` are known, and we by them. Files are read for each connection, so that renewed ones
/// are taken. Without a CA the public ones are trusted.
#[derive(Clone, Default)]
#[cfg_attr(
    not(feature = "tls"),
    allow(dead_code, reason = "where nobody can connect by it")
)]
pub struct Tls {
    ca: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    pub(crate) name: Option<Arc<str>>,
}

#[derive(Clone)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nobody reads it"))]
enum Pem {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Tls {
    /// Trusts the public authorities and shows no certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities in this PEM file, and no others.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(Pem::File(path.into()));
        self
    }

    /// Trusts these authorities, in PEM, and no others.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(Pem::Bytes(pem.as_ref().into()));
        self
    }

    /// Shows the certificate of one PEM file, whose key is in the other, to servers that ask for one.
    #[must_use]
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// Shows this certificate, with its key, both in PEM, to servers that ask for one.
    #[must_use]
    pub fn identity_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let [certificate, key] =
            [certificate.as_ref(), key.as_ref()].map(|pem| Pem::Bytes(pem.into()));
        self.identity = Some((certificate, key));
        self
    }

    /// The name that servers' certificates must have, where it is not that of the URL.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

#[cfg(feature = "tls")]
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => path.display().fmt(f),
            Pem::Bytes(_) => f.write_str("the PEM given"),
        }
    }
}

/// What a TLS connection failed of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// Our own certificates or key are of no use.
    #[error("{place}: {reason}; give a PEM file that this process may read")]
    #[non_exhaustive]
    Unusable {
        /// Which.
        place: String,
        /// Why.
        reason: String,
    },
    /// Nobody whom we trust signed the server's certificate.
    #[error(
        "the server's certificate is signed by nobody who is trusted here; give its authority's certificate (`Tls::ca_file`, `--ca`)"
    )]
    Untrusted,
    /// The server's certificate has other names.
    #[error(
        "the server's certificate is not for this name; connect by a name that is in it, or say which to expect (`Tls::server_name`)"
    )]
    OtherName,
    /// The server's certificate is no longer good.
    #[error("the server's certificate has expired; renew it there and restart the server")]
    Expired,
    /// The server's certificate is not good yet.
    #[error("the server's certificate is not valid yet; compare the clocks of both machines")]
    NotYetValid,
    /// The server's certificate cannot be taken for another reason.
    #[error("the server's certificate cannot be taken: {0}; give the server another one")]
    Unfit(String),
    /// What answers speaks no TLS.
    #[error("what answers there speaks no TLS; write http://, or give the server [server.tls]")]
    Plain,
    /// The server wants TLS.
    #[error("the server speaks TLS only; write https://")]
    Wanted,
    /// The server wants to see a certificate.
    #[error(
        "the server asks for a certificate of ours; give one with its key (`Tls::identity_files`, `--cert` and `--key`)"
    )]
    Anonymous,
    /// The server does not take our certificate.
    #[error("the server refuses our certificate: {0}; give one of an authority in its client_ca")]
    Refused(String),
    /// Something else.
    #[error(
        "the handshake failed: {0}; see that server and client are of releases that fit each other"
    )]
    Handshake(String),
}

impl TlsFault {
    /// What TLS has to do with an error from the network, if it has: found in its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<TlsFault>() {
                return Some(fault.clone());
            }
            #[cfg(feature = "tls")]
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(rust::fault(error));
            }
            // Its own source is its content's.
            let within = error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref);
            next = match within {
                Some(within) => Some(within),
                None => error.source(),
            };
        }
        None
    }
}

/// What needs the library.
#[cfg(feature = "tls")]
mod rust {
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};

    use super::{Pem, Tls, TlsFault};

    impl Tls {
        /// Reads the files: what is wrong with them, if anything is.
        pub fn check(&self) -> Result<(), TlsFault> {
            self.client().map(drop)
        }

        /// What the library is given.
        pub(crate) fn client(&self) -> Result<ClientConfig, TlsFault> {
            let mut roots = RootCertStore::empty();
            match &self.ca {
                Some(ca) => {
                    for certificate in certificates(ca)? {
                        roots
                            .add(certificate)
                            .map_err(|error| ca.unusable(&error.to_string()))?;
                    }
                }
                None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| fault(&error))?
                .with_root_certificates(roots);
            let mut client = match &self.identity {
                None => builder.with_no_client_auth(),
                Some((certificate, key)) => {
                    let chain = certificates(certificate)?;
                    let of = PrivateKeyDer::from_pem_slice(&key.read()?)
                        .map_err(|_| key.unusable("there is no key in it"))?;
                    builder
                        .with_client_auth_cert(chain, of)
                        .map_err(|error| certificate.unusable(&error.to_string()))?
                }
            };
            client.alpn_protocols.push(b"h2".to_vec());
            Ok(client)
        }
    }

    fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
        let bytes = pem.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(pem.unusable("there is no certificate in it")),
        }
    }

    impl Pem {
        fn read(&self) -> Result<Vec<u8>, TlsFault> {
            match self {
                Pem::File(path) => read(path),
                Pem::Bytes(bytes) => Ok(bytes.to_vec()),
            }
        }

        fn unusable(&self, reason: &str) -> TlsFault {
            TlsFault::Unusable {
                place: self.to_string(),
                reason: reason.to_owned(),
            }
        }
    }

    fn read(path: &Path) -> Result<Vec<u8>, TlsFault> {
        std::fs::read(path).map_err(|error| TlsFault::Unusable {
            place: path.display().to_string(),
            reason: error.to_string(),
        })
    }

    pub(super) fn fault(error: &rustls::Error) -> TlsFault {
        use rustls::Error;

        match error {
            Error::InvalidCertificate(error) => certificate(error),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFault::Plain,
            Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => TlsFault::Anonymous,
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied => TlsFault::Refused(format!("{alert:?}")),
                _ => TlsFault::Handshake(error.to_string()),
            },
            error => TlsFault::Handshake(error.to_string()),
        }
    }

    fn certificate(error: &CertificateError) -> TlsFault {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::Untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::OtherName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFault::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFault::NotYetValid
            }
            error => TlsFault::Unfit(format!("{error:?}")),
        }
    }
}
