//! Certificates for tests of TLS: an authority of our own, a server certificate that names
//! `localhost` and 127.0.0.1 (the automatic ones of the servers name no host, so no client can
//! verify them), and a client certificate.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::fetch::Program;
use super::flag;
use super::process::run;

/// PEM files, below the folder of one server.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub authority: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    pub client: PathBuf,
    pub client_key: PathBuf,
}

const DAYS: &str = "30";
const CONFIGURATION: &str = "\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost,IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
basicConstraints = CA:FALSE
subjectAltName = DNS:client
extendedKeyUsage = clientAuth
";

impl Certificates {
    /// Makes all of them, fresh, in `dir`.
    pub(super) fn make(openssl: &Program, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let configuration = dir.join("openssl.cnf");
        fs::write(&configuration, CONFIGURATION)?;
        let file = |name: &str| dir.join(name);
        let these = Self {
            authority: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server-key.pem"),
            client: file("client.pem"),
            client_key: file("client-key.pem"),
        };
        let authority_key = file("ca-key.pem");
        let issue = |section: &str, certificate: &Path, key: &Path, signed: bool| {
            let mut command = openssl.command();
            command.args(["req", "-x509", "-nodes", "-days", DAYS, "-newkey", "ec"]);
            command.args([
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-extensions",
                section,
            ]);
            command.args(["-subj", &format!("/CN=onair test {section}")]);
            command.arg("-config").arg(&configuration);
            command.arg("-out").arg(certificate).arg("-keyout").arg(key);
            if signed {
                command
                    .arg("-CA")
                    .arg(&these.authority)
                    .arg("-CAkey")
                    .arg(&authority_key);
            }
            run(&mut command, &format!("making the {section} certificate"))
        };
        issue("authority", &these.authority, &authority_key, false)?;
        issue("server", &these.server, &these.server_key, true)?;
        issue("client", &these.client, &these.client_key, true)?;
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
