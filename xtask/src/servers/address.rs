//! Where a server listens and who administers it: `mysql://user:password@host:port`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    /// The administrator.
    pub(super) user: String,
    pub(super) password: String,
}

impl Address {
    /// A server of our own: `root` without a password.
    pub(super) fn of_our_own(port: u16) -> Self {
        Self {
            host: "127.0.0.1".into(),
            port,
            user: "root".into(),
            password: String::new(),
        }
    }

    /// Of a URL that a user gave in `variable`; what comes after the port is not looked at.
    pub(super) fn given(url: &str, variable: &str) -> Result<Self> {
        parse(url).with_context(|| {
            format!("{variable} is not an address of the form mysql://user:password@host:port")
        })
    }

    /// `user` is a name, or name and password with a colon between them. `root` is whoever
    /// administers the server.
    pub(super) fn url(&self, user: &str, database: &str) -> String {
        let Self { host, port, .. } = self;
        let account = match user.split_once(':') {
            Some((name, password)) => format!("{}:{}", encode(name), encode(password)),
            None if user == "root" && self.password.is_empty() => encode(&self.user),
            None if user == "root" => {
                format!("{}:{}", encode(&self.user), encode(&self.password))
            }
            None => encode(user),
        };
        let slash = if database.is_empty() { "" } else { "/" };
        format!("mysql://{account}@{host}:{port}{slash}{database}")
    }
}

fn parse(url: &str) -> Option<Address> {
    let rest = url
        .strip_prefix("mysql://")
        .or_else(|| url.strip_prefix("mariadb://"))?;
    let authority = rest.split(['/', '?']).next()?;
    let (account, place) = authority.rsplit_once('@')?;
    let (user, password) = account.split_once(':').unwrap_or((account, ""));
    let (host, port) = place.rsplit_once(':').unwrap_or((place, "3306"));
    Some(Address {
        host: host.to_owned(),
        port: port.parse().ok()?,
        user: decode(user)?,
        password: decode(password)?,
    })
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        let url = "mysql://ro%2Ft:p%40ss@db.example:3307/live?ssl-mode=disable";
        let address = Address::given(url, "X").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("db.example", 3307));
        assert_eq!(
            (address.user.as_str(), address.password.as_str()),
            ("ro/t", "p@ss")
        );
        assert_eq!(
            address.url("root", "t"),
            "mysql://ro%2Ft:p%40ss@db.example:3307/t"
        );
        assert_eq!(
            address.url("onair:a/b", "t"),
            "mysql://onair:a%2Fb@db.example:3307/t"
        );
        assert_eq!(
            Address::of_our_own(1).url("root", ""),
            "mysql://root@127.0.0.1:1"
        );
        assert!(Address::given("db:3306", "X").is_err());
    }
}
