//! What MySQL servers are started with.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::fetch::Dist;
use super::process::run;
use super::{Flavor, Tls, certificates::Certificates, flag};

/// For the start that makes a data directory and for every later one. Small buffers: a test run
/// has several servers at once.
fn common(dist: &Dist, data: &Path, temporary: &Path) -> Vec<OsString> {
    let share = match dist.flavor {
        Flavor::Mysql80 => dist.base.join("share"),
        _ => dist.base.join("share/mysql"),
    };
    let plugins = match dist.flavor {
        Flavor::Mysql80 => dist.base.join("lib/plugin"),
        _ => dist.base.join("lib/mysql/plugin"),
    };
    let mut arguments = vec![
        // First, or it is not known.
        "--no-defaults".into(),
        flag("--datadir=", data),
        flag("--tmpdir=", temporary),
        flag("--basedir=", &dist.base),
        flag("--plugin-dir=", plugins),
        flag("--lc-messages-dir=", &share),
        flag("--character-sets-dir=", share.join("charsets")),
    ];
    arguments.extend(
        [
            "--secure-file-priv=",
            "--mysqlx=0",
            "--innodb-buffer-pool-size=64M",
            "--innodb-redo-log-capacity=64M",
            "--innodb-log-buffer-size=4M",
            "--performance-schema=OFF",
            "--table-open-cache=400",
            "--max-connections=200",
        ]
        .map(OsString::from),
    );
    if rustix::process::geteuid().is_root() {
        arguments.push("--user=root".into());
    }
    arguments
}

/// The arguments of a running server, without address and port.
pub(super) fn arguments(
    dist: &Dist,
    data: &Path,
    temporary: &Path,
    tls: &Tls,
    certificates: Option<&Certificates>,
) -> Vec<OsString> {
    let mut arguments = common(dist, data, temporary);
    arguments.extend(
        [
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--binlog-row-image=FULL",
            "--binlog-row-metadata=FULL",
            "--sync-binlog=1",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
        ]
        .map(OsString::from),
    );
    match (tls, certificates) {
        (Tls::Off, _) => arguments.push("--tls-version=".into()),
        (_, Some(certificates)) => arguments.extend(certificates.server_flags()),
        // It makes its own, without a host name in them.
        _ => {}
    }
    arguments
}

/// Makes a data directory whose administrator is `root` without a password, by TCP also where the
/// address 127.0.0.1 has no name.
pub(super) fn initialise(dist: &Dist, data: &Path, temporary: &Path) -> Result<()> {
    const ACCOUNTS: &str = "CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY '';\n\
                            GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n";
    let accounts = temporary.join("accounts.sql");
    fs::write(&accounts, ACCOUNTS)?;
    let mut command = dist.server.command();
    command
        .args(common(dist, data, temporary))
        // No binlog here, so that a copy starts with an empty GTID set.
        .args(["--initialize-insecure", "--skip-log-bin"])
        .arg(flag("--init-file=", &accounts));
    run(&mut command, "initialising").map(drop)
}

/// What a copy of a data directory must not have: its identity, and what only a running one has.
pub(super) fn is_copied(name: &str) -> bool {
    name != "auto.cnf" && !name.starts_with("binlog.") && !name.contains(".sock")
}
