//! What is said when MySQL does not let us in, of wrong URLs, and what `doctor` asks for.

use mysql_async::{DriverError, Error, ServerError};
use onair_xtask::texts::Texts;

use super::config::MysqlConfig;
use super::errors::{explain, explain_dump};
use super::preflight;
use crate::source::Dialect;

pub(crate) fn add(texts: &mut Texts) {
    refusals(texts);
    urls(texts);
    doctor(texts);
}

fn server(code: u16, message: &str) -> Error {
    Error::Server(ServerError {
        code,
        message: message.to_owned(),
        state: "HY000".to_owned(),
    })
}

fn refusals(texts: &mut Texts) {
    const DB: &str = "db.example:3306";
    let said = [
        (
            1045,
            "Access denied for user 'onair'@'10.0.0.7' (using password: YES)",
        ),
        (
            1142,
            "SELECT command denied to user 'onair'@'10.0.0.7' for table 'room'",
        ),
        (
            1129,
            "Host '10.0.0.7' is blocked because of many connection errors",
        ),
        (
            1130,
            "Host '10.0.0.7' is not allowed to connect to this MySQL server",
        ),
        (1524, "Plugin 'mysql_native_password' is not loaded"),
        (
            1820,
            "You must reset your password using ALTER USER statement",
        ),
        (
            3118,
            "Access denied for user 'onair'@'10.0.0.7'. Account is locked",
        ),
        (3159, "Connections using insecure transport are prohibited"),
    ];
    let means = "The server refuses the account.";
    for (code, message) in said {
        let error = explain(DB, &server(code, message));
        assert!(error.is_final(), "{error}");
        texts.error(
            &format!("Server error {code}"),
            &error,
            means,
            "As the text says.",
        );
    }
    let no_tls = Error::Driver(DriverError::NoClientSslFlagFromServer);
    texts.error(
        "TLS",
        &explain(DB, &no_tls),
        "The URL asks for TLS and the server has none.",
        "As the text says.",
    );
    let dump = |message: &str| explain_dump(DB, "0-1-57", 77, &server(1236, message));
    texts.error(
        "Server error 1236",
        &dump("Could not find first log file name in binary log index file"),
        "The binlog ends before the place to go on from.",
        "Nothing: the table is scanned anew.",
    );
    texts.error(
        "Server error 1236",
        &dump("A replica with the same server_uuid/server_id as this replica has connected to the source"),
        "Another client reads the binlog under the same number.",
        "As the text says.",
    );
}

/// Each mistake of a URL.
fn urls(texts: &mut Texts) {
    let urls = [
        "db:3306",
        "postgres://onair@db",
        "mysql://onair@",
        "mysql://db",
        "mysql://onair:a%zz@db",
        "mysql://onair:a%ff@db",
        "mysql://onair@db/live/room",
        "mysql://onair@db#x",
        "mysql://onair@db?sslmode=disable",
        "mysql://onair@db?ssl-mode=on",
        "mysql://onair@db?ssl-mode=verify-ca",
        "mysql://onair@db?ssl-mode=require&ssl-mode=require",
        "mysql://onair@db?ssl-ca=ca.pem",
        "mysql://onair@db?ssl-cert=c.pem",
        "mysql://onair@db?ssl-mode=disable&ssl-cert=c.pem&ssl-key=k.pem",
    ];
    for url in urls {
        match MysqlConfig::from_url(url) {
            Ok(_) => panic!("{url} is taken"),
            Err(errors) => texts.error(
                &format!("URL {url}"),
                &errors,
                "The source's URL is wrong.",
                "As the text says.",
            ),
        }
    }
}

/// What each setting must be, by the table that the checks go by.
fn doctor(texts: &mut Texts) {
    for dialect in [Dialect::Mysql, Dialect::Mariadb] {
        for finding in preflight::bad_settings(dialect) {
            let name = format!("doctor, {dialect:?}: {}", finding.check);
            let text = format!("{:?}: {}", finding.level, finding.why);
            texts.text(
                &name.to_lowercase(),
                &text,
                "A setting of the server.",
                &finding.fix,
            );
        }
    }
}
