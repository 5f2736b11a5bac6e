//! What the driver and the server say, as [`SourceError`]s that tell what to do.

use mysql_async::{DriverError, Error, IoError, ServerError};

use crate::source::SourceError;

/// "Got fatal error %d from source when reading data from binary log": all that a dump may fail of.
const READING_BINLOG: u16 = 1236;
/// MariaDB gives some refusals of a GTID position codes of their own.
const MARIADB_GTID: std::ops::RangeInclusive<u16> = 1941..=1955;

/// The error of a connection attempt, a query or a stream.
pub(super) fn explain(address: &str, err: &Error) -> SourceError {
    let (reason, remedy) = match err {
        Error::Server(err) => (said(err), denied(err)),
        Error::Driver(err) => (driver_said(err), driver_denied(err)),
        Error::Io(IoError::Io(err)) => (err.to_string(), tls_denied(err)),
        other => (other.to_string(), None),
    };
    let address = address.to_owned();
    match remedy {
        Some(remedy) => SourceError::Denied {
            address,
            reason,
            remedy: remedy.to_owned(),
        },
        None => SourceError::Unreachable { address, reason },
    }
}

/// The error of a dump that was asked to begin after `from`, by a client with `server_id`.
pub(super) fn explain_dump(address: &str, from: &str, server_id: u32, err: &Error) -> SourceError {
    let Error::Server(server) = err else {
        return explain(address, err);
    };
    // The one place that reads the message: the server has a single code for all of these.
    let message = server.message.to_ascii_lowercase();
    if message.contains("same server_uuid/server_id") || message.contains("same server id") {
        return SourceError::SameServerId {
            address: address.to_owned(),
            server_id,
            reason: said(server),
        };
    }
    let position = [
        "purged",
        "gtid",
        "could not find",
        "missing",
        "impossible position",
    ];
    let about_position = position.iter().any(|word| message.contains(word));
    if (server.code == READING_BINLOG && about_position) || MARIADB_GTID.contains(&server.code) {
        return SourceError::Purged {
            address: address.to_owned(),
            from: from.to_owned(),
            reason: said(server),
        };
    }
    explain(address, err)
}

/// The server's own words with its code.
pub(super) fn said(err: &ServerError) -> String {
    format!("error {}: {}", err.code, err.message)
}

/// Whether a statement failed because the server does not know a variable, statement, function or table.
pub(super) fn is_unknown(err: &Error) -> bool {
    // unknown variable, syntax, function, table, database, and "cannot be set"
    matches!(err, Error::Server(err) if matches!(err.code, 1193 | 1064 | 1305 | 1146 | 1109 | 1049 | 1238))
}

/// Whether a statement failed for want of a privilege.
pub(super) fn is_denied(err: &Error) -> bool {
    matches!(err, Error::Server(err) if matches!(err.code, 1044 | 1045 | 1142 | 1143 | 1227 | 1370))
}

fn denied(err: &ServerError) -> Option<&'static str> {
    Some(match err.code {
        1045 | 1698 => {
            "check the user, the password (ONAIR_SOURCE_PASSWORD or a file), the host that the account is for \
             (SELECT user, host, plugin FROM mysql.user), ssl-cert and ssl-key if the account REQUIREs them, and \
             ssl-mode=require if the server or the account allows no plain text"
        }
        1044 | 1142 | 1143 | 1227 | 1370 => {
            "GRANT REPLICATION SLAVE ON *.* TO the account, and GRANT SELECT on each captured table"
        }
        1129 => "run FLUSH HOSTS on the server, after too many failed connections",
        1130 => "create the account for the host that OnAir runs on, or for '%'",
        1251 | 1524 | 2059 => {
            "the server cannot load the account's authentication plugin; ALTER USER .. IDENTIFIED WITH \
             caching_sha2_password BY .."
        }
        1820 | 1862 => "give the account a new password: ALTER USER .. IDENTIFIED BY ..",
        3118 | 4151 => "ALTER USER .. ACCOUNT UNLOCK",
        3159 => "add ?ssl-mode=require or ?ssl-mode=verify-full to the source's URL",
        _ if err.message.contains("insecure transport") => {
            "add ?ssl-mode=require or ?ssl-mode=verify-full to the source's URL"
        }
        _ => return None,
    })
}

fn driver_said(err: &DriverError) -> String {
    match err {
        DriverError::UnexpectedPacket { payload } => {
            format!("an unexpected packet of {} bytes", payload.len())
        }
        DriverError::NoClientSslFlagFromServer => "the server does not offer TLS".to_owned(),
        other => other.to_string(),
    }
}

fn driver_denied(err: &DriverError) -> Option<&'static str> {
    Some(match err {
        DriverError::NoClientSslFlagFromServer => {
            "set ssl_ca, ssl_cert and ssl_key on the server, or use ssl-mode=prefer"
        }
        DriverError::UnknownAuthPlugin { .. }
        | DriverError::MysqlOldPasswordDisabled
        | DriverError::CleartextPluginDisabled
        | DriverError::InvalidParsecSalt => {
            "use an account with caching_sha2_password or mysql_native_password: ALTER USER .. IDENTIFIED \
             WITH caching_sha2_password BY .."
        }
        DriverError::NoKeyFound => "ssl-key must name a PEM file with a private key",
        _ => return None,
    })
}

fn tls_denied(err: &std::io::Error) -> Option<&'static str> {
    let tls = err.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match tls {
        rustls::Error::InvalidCertificate(_) => {
            "give ssl-ca the authority that signed the server's certificate, connect by a name that the \
             certificate has as subject alternative name (MySQL's automatic certificates have none), or use \
             ssl-mode=require, which verifies nothing"
        }
        rustls::Error::AlertReceived(_) => {
            "the server refused our side of TLS; check ssl-cert and ssl-key, and tls_version on the server \
             (1.2 or 1.3 is needed)"
        }
        rustls::Error::PeerIncompatible(_) => {
            "the server must offer TLS 1.2 or 1.3: see its tls_version"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Error {
        Error::Server(ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        })
    }

    #[test]
    fn a_dump_refusal_says_what_to_do_next() {
        let dump =
            |code, message: &str| explain_dump("db:3306", "u:1-5", 7, &server(code, message));
        for message in [
            "Cannot replicate because the source purged required binary logs.",
            "Could not find GTID state requested by slave in any binlog files.",
            "Replica has more GTIDs than the source has, using the source's SERVER_UUID.",
        ] {
            assert!(
                matches!(dump(1236, message), SourceError::Purged { .. }),
                "{message}"
            );
        }
        assert!(matches!(
            dump(
                1236,
                "A replica with the same server_uuid/server_id as this replica has connected"
            ),
            SourceError::SameServerId { server_id: 7, .. }
        ));
        assert!(matches!(
            dump(1236, "Could not open log file"),
            SourceError::Unreachable { .. }
        ));
        assert!(matches!(
            dump(
                1227,
                "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)"
            ),
            SourceError::Denied { .. }
        ));
        assert!(matches!(
            dump(1053, "Server shutdown in progress"),
            SourceError::Unreachable { .. }
        ));
    }
}
