//! Certificates for tests of TLS: an authority of our own, a server certificate that names
//! `localhost` and 127.0.0.1 (the automatic ones of the servers name no host, so no client can
//! verify them), and a client certificate.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::flag;

/// PEM files in one folder, keys in PKCS 8.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub authority: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    pub client: PathBuf,
    pub client_key: PathBuf,
}

/// The years in which a server's certificate is good.
#[derive(Debug, Clone, Copy)]
struct Years {
    from: i32,
    to: i32,
}

const GOOD: Years = Years {
    from: 2020,
    to: 2120,
};
const EXPIRED: Years = Years {
    from: 2020,
    to: 2021,
};

impl Certificates {
    /// Makes all of them, of an authority of their own, in `dir`.
    pub fn make(dir: &Path) -> Result<Self> {
        Self::make_for(dir, GOOD)
    }

    /// [`Certificates::make`], but the server's has expired.
    pub fn make_expired(dir: &Path) -> Result<Self> {
        Self::make_for(dir, EXPIRED)
    }

    fn make_for(dir: &Path, server: Years) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = |name: &str| dir.join(name);
        let these = Self {
            authority: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server-key.pem"),
            client: file("client.pem"),
            client_key: file("client-key.pem"),
        };
        // Two authorities of one name would be taken for one with another key.
        let of = dir.file_name().unwrap_or_default();
        let name = format!("authority of {}", of.display());
        let mut of_authority = params(&name, &[], GOOD)?;
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        of_authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        write(
            &these.authority,
            &of_authority.clone().self_signed(&key)?.pem(),
        )?;
        let authority = Issuer::new(of_authority, key);
        let mut of_server = params("server", &["localhost", "127.0.0.1"], server)?;
        of_server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        issue(&of_server, &authority, &these.server, &these.server_key)?;
        let mut of_client = params("client", &["client"], GOOD)?;
        of_client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        issue(&of_client, &authority, &these.client, &these.client_key)?;
        Ok(these)
    }

    pub(super) fn server_flags(&self) -> [OsString; 3] {
        [
            flag("--ssl-ca=", &self.authority),
            flag("--ssl-cert=", &self.server),
            flag("--ssl-key=", &self.server_key),
        ]
    }
}

fn params(what: &str, names: &[&str], years: Years) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    let name = format!("onair test {what}");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.from, 1, 1);
    params.not_after = date_time_ymd(years.to, 1, 1);
    Ok(params)
}

fn issue(
    params: &CertificateParams,
    authority: &Issuer<'_, KeyPair>,
    certificate: &Path,
    key: &Path,
) -> Result<()> {
    let pair = KeyPair::generate()?;
    write(certificate, &params.signed_by(&pair, authority)?.pem())?;
    write(key, &pair.serialize_pem())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
