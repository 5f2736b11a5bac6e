//! Each server that can be fetched: started, asked, read back through its own binlog tool, killed
//! and started again.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

use anyhow::Result;
use onair_xtask::servers::{Flavor, Options, Server, Tls};

/// A server, or nothing and a word about it when this run does without that flavor.
fn start(flavor: Flavor, options: Options) -> Result<Option<Server>> {
    if flavor.is_left_out() {
        eprintln!("NOT RUN {flavor}: left out");
        return Ok(None);
    }
    // These tests control the server, so a given address is no use to them.
    Server::start_own(flavor, options).map(Some)
}

fn a_row_survives_kill_9(flavor: Flavor) -> Result<()> {
    let Some(server) = start(flavor, Options::default())? else {
        return Ok(());
    };
    server.sql(
        "CREATE DATABASE live; \
         CREATE TABLE live.room (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(20)); \
         INSERT INTO live.room VALUES (18446744073709551615, 'a\\tb'), (2, NULL);",
    )?;
    let rows = "2\tNULL\n18446744073709551615\ta\\tb\n";
    let select = "SELECT * FROM live.room ORDER BY id";
    assert_eq!(server.sql(select)?, rows);

    let told = server.binlog_text()?;
    assert!(told.contains("### INSERT INTO `live`.`room`"), "{told}");
    assert!(told.contains("###   @1=2"), "{told}");

    let port = server.port();
    let process = server.process_id();
    server.kill9()?;
    assert_eq!(server.process_id(), None);
    // Dead at once, and the port is free for the restart.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    assert!(server.sql("DO 1").is_err());
    // The binlog can be read without the server.
    assert!(
        server
            .binlog_text()?
            .contains("### INSERT INTO `live`.`room`")
    );

    server.restart()?;
    assert_eq!(server.port(), port);
    assert_ne!(server.process_id(), process);
    assert_eq!(server.sql(select)?, rows);
    assert_eq!(server.binlog_files()?.len(), 2);

    // In good order, and from a frozen state too.
    server.sigstop()?;
    server.restart()?;
    assert_eq!(server.sql(select)?, rows);

    let data = server.data_dir()?.to_owned();
    drop(server);
    assert!(!data.exists(), "{} was left behind", data.display());
    Ok(())
}

#[test]
fn mysql97_survives_kill_9() -> Result<()> {
    a_row_survives_kill_9(Flavor::Mysql97)
}

#[test]
fn mysql80_survives_kill_9() -> Result<()> {
    a_row_survives_kill_9(Flavor::Mysql80)
}

#[test]
fn mariadb1011_survives_kill_9() -> Result<()> {
    a_row_survives_kill_9(Flavor::Mariadb1011)
}

#[test]
fn mariadb118_survives_kill_9() -> Result<()> {
    a_row_survives_kill_9(Flavor::Mariadb118)
}

fn is_set_up_for_capture(flavor: Flavor) -> Result<()> {
    let Some(server) = start(flavor, Options::default())? else {
        return Ok(());
    };
    let asked = "SELECT @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@sync_binlog";
    assert_eq!(server.sql(asked)?, "ROW\tFULL\tFULL\t1\n");
    if flavor.is_mariadb() {
        assert_eq!(
            server.sql("SELECT @@gtid_strict_mode, @@gtid_domain_id")?,
            "1\t0\n"
        );
        assert_eq!(server.sql("SELECT @@gtid_binlog_pos")?, "\n");
    } else {
        assert_eq!(server.sql("SELECT @@gtid_mode, @@gtid_executed")?, "ON\t\n");
    }
    // Two at once are two: identity, port and data of their own.
    let Some(other) = start(flavor, Options::default())? else {
        return Ok(());
    };
    assert_ne!(server.port(), other.port());
    assert_ne!(
        server.sql("SELECT @@server_id")?,
        other.sql("SELECT @@server_id")?
    );
    if !flavor.is_mariadb() {
        assert_ne!(
            server.sql("SELECT @@server_uuid")?,
            other.sql("SELECT @@server_uuid")?
        );
    }
    Ok(())
}

#[test]
fn mysql97_is_set_up_for_capture() -> Result<()> {
    is_set_up_for_capture(Flavor::Mysql97)
}

#[test]
fn mysql80_is_set_up_for_capture() -> Result<()> {
    is_set_up_for_capture(Flavor::Mysql80)
}

#[test]
fn mariadb1011_is_set_up_for_capture() -> Result<()> {
    is_set_up_for_capture(Flavor::Mariadb1011)
}

/// The accounts are those of the URL that `url` gives, and have what was granted and no more.
fn a_user_has_its_grants(flavor: Flavor) -> Result<()> {
    let Some(server) = start(flavor, Options::default())? else {
        return Ok(());
    };
    server.sql("CREATE DATABASE live; CREATE TABLE live.room (id INT PRIMARY KEY)")?;
    let password = "it's \\ a / secret";
    server.create_user(
        "onair",
        password,
        &["REPLICATION SLAVE ON *.*", "SELECT ON live.*"],
    )?;
    server.create_user(
        "onair",
        password,
        &["REPLICATION SLAVE ON *.*", "SELECT ON live.*"],
    )?;
    let ask = |sql: &str| -> Result<bool> {
        let mut command = server.client();
        command
            .args(["--user=onair", "-e", sql])
            .env("MYSQL_PWD", password);
        Ok(command.output()?.status.success())
    };
    assert!(ask("SELECT * FROM live.room")?);
    assert!(!ask("INSERT INTO live.room VALUES (1)")?);
    assert!(
        server
            .url("onair:a@b", "live")
            .contains("onair:a%40b@127.0.0.1")
    );
    let refused = server.create_user("x", "top secret", &["NO SUCH GRANT ON *.*"]);
    let text = format!("{:#}", refused.expect_err("there is no such grant"));
    assert!(!text.contains("top secret"), "{text}");
    Ok(())
}

#[test]
fn mysql97_user_has_its_grants() -> Result<()> {
    a_user_has_its_grants(Flavor::Mysql97)
}

#[test]
fn mysql80_user_has_its_grants() -> Result<()> {
    a_user_has_its_grants(Flavor::Mysql80)
}

#[test]
fn mariadb1011_user_has_its_grants() -> Result<()> {
    a_user_has_its_grants(Flavor::Mariadb1011)
}

/// A client that verifies the server's certificate and the name in it gets in, and one that wants
/// TLS from a server without it does not.
fn speaks_tls(flavor: Flavor, verify: &[&str], demand: &[&str]) -> Result<()> {
    let Some(server) = start(
        flavor,
        Options {
            tls: Tls::Certified,
            ..Options::default()
        },
    )?
    else {
        return Ok(());
    };
    let certificates = server
        .certificates()
        .expect("it was started with them")
        .clone();
    let cipher = |server: &Server, flags: &[&str]| -> Result<Output> {
        let mut command = server.client();
        command.args(["--skip-column-names", "--host=localhost", "-e"]);
        command.arg("SHOW STATUS LIKE 'Ssl_cipher'").args(flags);
        command.arg(format!("--ssl-ca={}", certificates.authority.display()));
        command.arg(format!("--ssl-cert={}", certificates.client.display()));
        command.arg(format!("--ssl-key={}", certificates.client_key.display()));
        Ok(command.output()?)
    };
    let output = cipher(&server, verify)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.trim().len() > "Ssl_cipher".len(), "{text} {output:?}");
    let Some(plain) = start(
        flavor,
        Options {
            tls: Tls::Off,
            ..Options::default()
        },
    )?
    else {
        return Ok(());
    };
    assert_eq!(
        plain.sql("SHOW STATUS LIKE 'Ssl_cipher'")?.trim(),
        "Ssl_cipher"
    );
    assert!(!cipher(&plain, demand)?.status.success());
    Ok(())
}

#[test]
fn mysql97_speaks_tls() -> Result<()> {
    speaks_tls(
        Flavor::Mysql97,
        &["--ssl-mode=VERIFY_IDENTITY"],
        &["--ssl-mode=REQUIRED"],
    )
}

#[test]
fn mysql80_speaks_tls() -> Result<()> {
    speaks_tls(
        Flavor::Mysql80,
        &["--ssl-mode=VERIFY_IDENTITY"],
        &["--ssl-mode=REQUIRED"],
    )
}

#[test]
fn mariadb1011_speaks_tls() -> Result<()> {
    let verify = ["--ssl", "--ssl-verify-server-cert"];
    speaks_tls(Flavor::Mariadb1011, &verify, &verify)
}

#[test]
fn what_was_not_understood_is_said() {
    let unknown = "mysql-5.7"
        .parse::<Flavor>()
        .expect_err("there is none")
        .to_string();
    assert!(
        unknown.contains("mysql-9.7, mysql-8.0, mariadb-10.11"),
        "{unknown}"
    );
    if Flavor::Mysql97.is_left_out() {
        return;
    }
    let options = Options {
        extra_args: vec!["--no-such-flag=1".into()],
        ..Options::default()
    };
    let error = Server::start_own(Flavor::Mysql97, options).expect_err("it cannot start");
    assert!(format!("{error:#}").contains("no-such-flag"), "{error:#}");
}

/// Run by [`a_given_address_is_used`] in a process of its own, which has the address.
#[test]
#[ignore = "needs a given address"]
fn given_address() -> Result<()> {
    for flavor in [Flavor::Mysql97, Flavor::Mariadb1011] {
        let server = Server::start(flavor, Options::default())?;
        assert_eq!(Some(server.url("root", "")), flavor.given_address());
        server.sql("CREATE DATABASE given; CREATE TABLE given.t (id INT PRIMARY KEY)")?;
        server.sql("INSERT INTO given.t VALUES (7)")?;
        // Through the network: its files may be on another machine.
        let told = server.binlog_text()?;
        assert!(told.contains("### INSERT INTO `given`.`t`"), "{told}");
        let refused = server.kill9().expect_err("it is not ours").to_string();
        assert!(refused.contains(flavor.variable()), "{refused}");
    }
    Ok(())
}

#[test]
fn a_given_address_is_used() -> Result<()> {
    let Some(mysql) = start(Flavor::Mysql97, Options::default())? else {
        return Ok(());
    };
    let Some(mariadb) = start(Flavor::Mariadb1011, Options::default())? else {
        return Ok(());
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "--exact",
        "servers::given_address",
        "--ignored",
        "--nocapture",
    ]);
    for server in [&mysql, &mariadb] {
        server.sql("CREATE USER boss@'%' IDENTIFIED BY 'a/b'; GRANT ALL ON *.* TO boss@'%'")?;
        command.env(server.flavor().variable(), server.url("boss:a/b", ""));
    }
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    assert_eq!(mysql.sql("SELECT id FROM given.t")?, "7\n");
    assert_eq!(mariadb.sql("SELECT id FROM given.t")?, "7\n");
    Ok(())
}

#[test]
fn a_given_data_directory_is_kept() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let dir = parent.path().join("data");
    let options = || Options {
        data_dir: Some(dir.clone()),
        ..Options::default()
    };
    let Some(server) = start(Flavor::Mariadb1011, options())? else {
        return Ok(());
    };
    server.sql("CREATE DATABASE live; CREATE TABLE live.room (id INT PRIMARY KEY)")?;
    let scratch = server.scratch_dir()?;
    drop(server);
    assert!(!scratch.exists());
    let again = Server::start_own(Flavor::Mariadb1011, options())?;
    assert_eq!(again.sql("SHOW TABLES IN live")?, "room\n");
    assert_eq!(again.data_dir()?, dir);
    Ok(())
}
