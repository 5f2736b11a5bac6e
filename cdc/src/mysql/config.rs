//! Where the server is and how to reach it: `mysql://user@host:port/db?ssl-mode=verify-full&ssl-ca=ca.pem`.
//!
//! In: the URL, and what may not stand in it (the password from elsewhere). Out: [`MysqlConfig`], checked.
//! Wrong: [`ConfigErrors`], everything at once.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use url::Url;

/// MySQL's registered port.
const DEFAULT_PORT: u16 = 3306;
const EXAMPLE: &str = "mysql://onair@db.example:3306?ssl-mode=verify-full&ssl-ca=/etc/onair/ca.pem";

/// How to reach one MySQL or MariaDB server. Its `Debug` and `Display` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlConfig {
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    database: Option<String>,
    tls: TlsConfig,
    server_id: Option<NonZeroU32>,
}

/// What is asked of the transport.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// Whether to encrypt, and what to verify.
    pub mode: SslMode,
    /// Certificate authorities (PEM) to trust instead of the built-in public ones.
    pub ca: Option<PathBuf>,
    /// Our own certificate chain and private key (PEM), for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `ssl-mode`, as MySQL's own clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Plain text.
    Disable,
    /// TLS when the server has it, plain text otherwise; nothing is verified.
    #[default]
    Prefer,
    /// TLS or nothing; the certificate is not verified.
    Require,
    /// TLS with a certificate of a trusted authority for this host name.
    VerifyFull,
}

/// Everything that is wrong with a source's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source's URL is wrong: {}", .0.join("; "))]
pub struct ConfigErrors(pub Vec<String>);

impl MysqlConfig {
    /// Reads a URL. Everything wrong is reported at once, and never with the password.
    pub fn from_url(text: &str) -> Result<Self, ConfigErrors> {
        let url = Url::parse(text)
            .map_err(|err| ConfigErrors(vec![format!("{err}; write it like {EXAMPLE}")]))?;
        let mut wrong = Vec::new();
        if url.scheme() != "mysql" {
            wrong.push(format!(
                "the scheme is {}, not mysql; write it like {EXAMPLE}",
                url.scheme()
            ));
        }
        let host = host(&url);
        if host.is_empty() {
            wrong.push(format!("there is no host; write it like {EXAMPLE}"));
        }
        let user = decoded("user name", url.username(), &mut wrong);
        if user.is_empty() {
            wrong.push(format!("there is no user name; write it like {EXAMPLE}"));
        }
        let password = url
            .password()
            .map(|password| decoded("password", password, &mut wrong));
        let database = database(&url, &mut wrong);
        if url.fragment().is_some() {
            wrong.push("there is a # in it: write %23 in names and passwords".to_owned());
        }
        let tls = tls(&url, &mut wrong);
        if !wrong.is_empty() {
            return Err(ConfigErrors(wrong));
        }
        Ok(MysqlConfig {
            host,
            port: url.port().unwrap_or(DEFAULT_PORT),
            user,
            password,
            database,
            tls,
            server_id: None,
        })
    }

    /// With a password that does not stand in the URL; it takes the place of one that does.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// With a server id of its own for reading the binlog, instead of a derived one.
    #[must_use]
    pub fn with_server_id(mut self, server_id: NonZeroU32) -> Self {
        self.server_id = Some(server_id);
        self
    }

    /// Host name or address, an IPv6 one without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, for errors and logs.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Account name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database of the URL's path: what a table name without one means.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Transport security.
    pub fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    /// The configured server id.
    pub fn server_id(&self) -> Option<NonZeroU32> {
        self.server_id
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl fmt::Debug for MysqlConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| Redacted))
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("server_id", &self.server_id)
            .finish()
    }
}

impl fmt::Display for MysqlConfig {
    /// `mysql://user@host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mysql://{}@{}", self.user, self.address())
    }
}

struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
        .to_owned()
}

fn database(url: &Url, wrong: &mut Vec<String>) -> Option<String> {
    let path = url.path().trim_start_matches('/');
    if path.is_empty() {
        return None;
    }
    if path.contains('/') {
        wrong.push(format!(
            "the path {path:?} has more than one part: write one database, or none"
        ));
        return None;
    }
    Some(decoded("database", path, wrong))
}

fn tls(url: &Url, wrong: &mut Vec<String>) -> TlsConfig {
    let mut tls = TlsConfig::default();
    let (mut certificate, mut key) = (None, None);
    let mut seen = Vec::new();
    for (name, value) in url.query_pairs() {
        if seen.contains(&name) {
            wrong.push(format!("the parameter {name} stands twice: leave one out"));
        }
        match &*name {
            "ssl-mode" => match ssl_mode(&value) {
                Ok(mode) => tls.mode = mode,
                Err(why) => wrong.push(why),
            },
            "ssl-ca" => tls.ca = Some(PathBuf::from(&*value)),
            "ssl-cert" => certificate = Some(PathBuf::from(&*value)),
            "ssl-key" => key = Some(PathBuf::from(&*value)),
            _ => wrong.push(format!(
                "unknown parameter {name}: there are ssl-mode, ssl-ca, ssl-cert and ssl-key, leave others out"
            )),
        }
        seen.push(name);
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => tls.identity = Some((certificate, key)),
        (None, None) => {}
        _ => wrong.push("ssl-cert and ssl-key go together: give both or neither".to_owned()),
    }
    if tls.ca.is_some() && tls.mode != SslMode::VerifyFull {
        wrong.push(
            "ssl-ca verifies nothing without ssl-mode=verify-full; add that or leave ssl-ca out"
                .to_owned(),
        );
    }
    if tls.identity.is_some() && tls.mode == SslMode::Disable {
        wrong.push("ssl-cert and ssl-key mean nothing with ssl-mode=disable: leave them out, or use ssl-mode=require".to_owned());
    }
    tls
}

fn ssl_mode(text: &str) -> Result<SslMode, String> {
    // MySQL's own clients write REQUIRED, VERIFY_IDENTITY and so on; people copy both.
    match text.to_ascii_lowercase().replace('_', "-").as_str() {
        "disable" | "disabled" => Ok(SslMode::Disable),
        "prefer" | "preferred" => Ok(SslMode::Prefer),
        "require" | "required" => Ok(SslMode::Require),
        "verify-full" | "verify-identity" => Ok(SslMode::VerifyFull),
        "verify-ca" => Err(
            "ssl-mode=verify-ca cannot be had: the TLS library verifies a certificate with its host \
             name or not at all; use verify-full with a certificate that names the host, or require"
                .to_owned(),
        ),
        _ => Err(format!(
            "ssl-mode={text} is none of disable, prefer, require and verify-full: write one of them"
        )),
    }
}

/// Undoes percent encoding. The text itself is not repeated in the error: it may be the password.
fn decoded(what: &str, text: &str, wrong: &mut Vec<String>) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                wrong.push(format!(
                    "the {what} has a % that no two hex digits follow: write %25"
                ));
                return String::new();
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| {
        wrong.push(format!(
            "the {what} is not UTF-8 once decoded: write it in UTF-8, special characters as %XX"
        ));
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(url: &str) -> Vec<String> {
        MysqlConfig::from_url(url).unwrap_err().0
    }

    #[test]
    fn a_url_says_all() {
        let config = MysqlConfig::from_url(
            "mysql://on%40air:p%23ss@db.example:3307/live?ssl-mode=verify-full&ssl-ca=/a/ca.pem\
             &ssl-cert=c.pem&ssl-key=k.pem",
        )
        .unwrap();
        assert_eq!(config.user(), "on@air");
        assert_eq!(config.password(), Some("p#ss"));
        assert_eq!(config.address(), "db.example:3307");
        assert_eq!(config.database(), Some("live"));
        assert_eq!(config.tls().mode, SslMode::VerifyFull);
        assert_eq!(config.tls().ca, Some(PathBuf::from("/a/ca.pem")));
        assert!(config.tls().identity.is_some());

        let config = MysqlConfig::from_url("mysql://onair@[::1]").unwrap();
        assert_eq!(config.host(), "::1");
        assert_eq!(config.address(), "[::1]:3306");
        assert_eq!(config.tls().mode, SslMode::Prefer);
        assert_eq!(config.password(), None);
        assert_eq!(config.with_password("x").password(), Some("x"));
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = MysqlConfig::from_url("mysql://onair:tops3cret@db").unwrap();
        assert!(!format!("{config:?} {config}").contains("tops3cret"));
        let wrong = errors("mysql://onair:tops3cret%zz@db?x=1");
        assert!(!wrong.join(" ").contains("tops3cret"), "{wrong:?}");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let wrong = errors(
            "mysql://db/live/room?ssl-mode=verify-ca&ssl-ca=x&ssl-cert=y&sslmode=disable&ssl-ca=z",
        );
        for part in [
            "no user name",
            "more than one part",
            "verify-ca cannot be had",
            "unknown parameter sslmode",
            "ssl-ca stands twice",
            "go together",
            "verifies nothing",
        ] {
            assert!(wrong.iter().any(|w| w.contains(part)), "{part}: {wrong:?}");
        }
        assert!(errors("postgres://onair@db")[0].contains("not mysql"));
        assert!(errors("db:3306")[0].contains("mysql://"));
        assert!(errors("mysql://onair@db?ssl-mode=on")[0].contains("none of"));
    }
}
