//! Certificates and keys, read once, as the two kinds of connection want them: the driver's for queries, and ours
//! for the binlog.

use std::path::Path;
use std::sync::Arc;

use mysql_async::{ClientIdentity, SslOpts};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::config::{ConfigErrors, SslMode, TlsConfig};

/// Contents of the PEM files that a [`TlsConfig`] names.
#[derive(Clone)]
pub(super) struct Tls {
    verify: bool,
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the files; everything wrong with them is said at once.
    pub(super) fn read(config: &TlsConfig) -> Result<Self, ConfigErrors> {
        let mut wrong = Vec::new();
        let mut read = |name: &str, path: &Path, check: fn(&[u8]) -> bool, what: &str| {
            match std::fs::read(path) {
                Ok(bytes) if check(&bytes) => return Some(bytes),
                Ok(_) => wrong.push(format!("{name} {}: no {what} in it (PEM)", path.display())),
                Err(err) => wrong.push(format!("{name} {}: {err}", path.display())),
            }
            None
        };
        let ca = config.ca.as_ref();
        let ca = ca.and_then(|path| read("ssl-ca", path, has_certificate, "certificate"));
        let identity = config.identity.as_ref().map(|(certificate, key)| {
            let certificate = read("ssl-cert", certificate, has_certificate, "certificate");
            let key = read("ssl-key", key, has_key, "private key");
            certificate.zip(key)
        });
        if !wrong.is_empty() {
            return Err(ConfigErrors(wrong));
        }
        Ok(Tls {
            verify: config.mode == SslMode::VerifyFull,
            ca,
            identity: identity.flatten(),
        })
    }

    /// For the driver.
    pub(super) fn for_driver(&self) -> SslOpts {
        let mut opts = SslOpts::default().with_danger_accept_invalid_certs(!self.verify);
        if let Some(ca) = &self.ca {
            opts = opts
                .with_disable_built_in_roots(true)
                .with_root_certs(vec![ca.clone().into()]);
        }
        if let Some((certificate, key)) = &self.identity {
            let identity = ClientIdentity::new(certificate.clone().into(), key.clone().into());
            opts = opts.with_client_identity(Some(identity));
        }
        opts
    }

    /// For ourselves: the same trust.
    pub(super) fn for_rustls(&self) -> Result<Arc<ClientConfig>, ConfigErrors> {
        self.client_config().map(Arc::new).map_err(|err| {
            ConfigErrors(vec![format!(
                "the TLS library refuses the certificates: {err}"
            )])
        })
    }

    fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if self.verify {
            builder.with_root_certificates(self.roots()?)
        } else {
            let anyone = Arc::new(Anyone(provider));
            builder.dangerous().with_custom_certificate_verifier(anyone)
        };
        let general = |err: rustls::pki_types::pem::Error| rustls::Error::General(err.to_string());
        match &self.identity {
            Some((certificate, key)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(certificate).collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(general)?;
                builder.with_client_auth_cert(chain.map_err(general)?, key)
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in CertificateDer::pem_slice_iter(ca).flatten() {
                    roots.add(certificate)?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        Ok(roots)
    }
}

fn has_certificate(pem: &[u8]) -> bool {
    let mut found = CertificateDer::pem_slice_iter(pem).peekable();
    found.peek().is_some() && found.all(|certificate| certificate.is_ok())
}

fn has_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

/// `ssl-mode=prefer` and `require`: encrypted, to whoever answers.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
