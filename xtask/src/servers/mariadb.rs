//! What MariaDB servers are started with.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::fetch::Dist;
use super::process::run_with_input;
use super::{Flavor, Tls, certificates::Certificates, flag};

/// For the start that makes a data directory and for every later one.
fn common(dist: &Dist, data: &Path, temporary: &Path) -> Vec<OsString> {
    let share = share(dist);
    let mut arguments = vec![
        // First, or it is not known.
        "--no-defaults".into(),
        flag("--datadir=", data),
        // Servers that start at once in a shared one destroy each other's temporary tables.
        flag("--tmpdir=", temporary),
        flag("--basedir=", &dist.base),
        flag("--plugin-dir=", dist.base.join("lib/mysql/plugin")),
        flag("--lc-messages-dir=", &share),
        flag("--character-sets-dir=", share.join("charsets")),
    ];
    arguments.extend(
        [
            "--innodb-buffer-pool-size=64M",
            // 10.11.18 reserves 8 TiB of addresses without it.
            "--loose-innodb-buffer-pool-size-max=64M",
            "--innodb-log-file-size=64M",
            "--max-connections=200",
        ]
        .map(OsString::from),
    );
    if rustix::process::geteuid().is_root() {
        arguments.push("--user=root".into());
    }
    arguments
}

/// Messages, character sets and the script of the system tables.
fn share(dist: &Dist) -> PathBuf {
    match dist.flavor {
        Flavor::Mariadb1011 => dist.base.join("share/mysql"),
        _ => dist.base.join("share/mariadb"),
    }
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
            "--gtid-domain-id=0",
            "--gtid-strict-mode=ON",
            "--log-slave-updates=ON",
        ]
        .map(OsString::from),
    );
    match (tls, certificates) {
        (Tls::Off, _) => arguments.push("--skip-ssl".into()),
        (_, Some(certificates)) => arguments.extend(certificates.server_flags()),
        // 11.8 makes its own; 10.11 then has no TLS.
        _ => {}
    }
    arguments
}

/// Makes a data directory whose administrator is `root` without a password. `mariadb-install-db`
/// would do it, but it calls the server without the loader that it needs here.
pub(super) fn initialise(dist: &Dist, data: &Path, temporary: &Path) -> Result<()> {
    let share = share(dist);
    let prefix = match dist.flavor {
        Flavor::Mariadb1011 => "mysql",
        _ => "mariadb",
    };
    let mut script = b"create database if not exists mysql;\n\
                       use mysql;\n\
                       SET @auth_root_socket=NULL;\n"
        .to_vec();
    for file in [
        format!("{prefix}_system_tables.sql"),
        format!("{prefix}_performance_tables.sql"),
        format!("{prefix}_system_tables_data.sql"),
        "maria_add_gis_sp_bootstrap.sql".to_owned(),
        format!("{prefix}_sys_schema.sql"),
    ] {
        let path = share.join(file);
        let part = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        script.extend_from_slice(&part);
        script.push(b'\n');
    }
    fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
    let mut command = dist.server.command();
    command.args(common(dist, data, temporary)).args([
        "--bootstrap",
        "--log-warnings=0",
        "--enforce-storage-engine=",
        "--max-allowed-packet=8M",
        "--net-buffer-length=16K",
    ]);
    run_with_input(&mut command, &script, "initialising").map(drop)
}

/// What a copy of a data directory must not have: what only a running one has.
pub(super) fn is_copied(name: &str) -> bool {
    !name.starts_with("binlog.") && !name.contains(".sock")
}
