//! TLS to the nodes, by rustls with ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::StoreError;

/// Whom we trust and who we are: PEM files, read for each new session, so that renewed ones are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of those that sign the nodes'. Nodes are known by their addresses, which the certificates must name.
    pub ca: PathBuf,
    /// Our own certificate and its key, where nodes ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// What the driver is given.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, StoreError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|error| unreadable(&self.ca, error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unreadable(&self.ca, error))?
            .with_root_certificates(roots);
        let client = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key_der =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(|error| unreadable(certificate, error))?
            }
        };
        Ok(Arc::new(client))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    let found: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(path, error))?;
    if found.is_empty() {
        return Err(unreadable(path, "there is no certificate in it"));
    }
    Ok(found)
}

fn unreadable(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::Unreadable {
        place: path.display().to_string(),
        reason: reason.to_string(),
        remedy: "give a PEM file that this process may read".to_owned(),
    }
}
