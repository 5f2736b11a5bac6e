//! TLS everywhere: one process that speaks it to MySQL, to CQL's nodes and to its own clients.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use onair_bench::process::{Build, OnAir, binary};
use onair_bench::workload;
use onair_sdk::{Feed, Raw, State};
use onair_xtask::servers::{Certificates, Engine, Flavor, Options, Server, Tls};
use tempfile::TempDir;

use super::{cassandra, is_left_out};

/// The driver of the nodes brings a second provider of cryptography into the build, and the driver of MySQL, which asks for
/// the process's own, panics where nobody chose one: `main` does, and cdc's connector for whoever has no such `main`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_speaks_tls_to_mysql_and_cql_and_its_clients() {
    if is_left_out(Engine::Cassandra) || Flavor::Mysql97.is_left_out() {
        eprintln!("NOT RUN: MySQL or Cassandra is left out");
        return;
    }
    let Some(certificates) = cassandra().and_then(|node| node.certificates()) else {
        eprintln!("NOT RUN: the Cassandra given is not ours to give certificates to");
        return;
    };
    run(certificates)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
}

async fn run(of_node: &Certificates) -> Result<()> {
    let dir = TempDir::new()?;
    let options = Options {
        tls: Tls::Certified,
        ..Options::default()
    };
    let mysql = Server::start_own(Flavor::Mysql97, options)?;
    workload::create(&mysql)?;
    let grants = ["REPLICATION SLAVE ON *.*", "SELECT ON live.*"];
    mysql.create_user("onair", "secret", &grants)?;
    // Who speaks in the clear is refused there; at the node, whoever does not trust its authority.
    mysql.sql("SET GLOBAL require_secure_transport = ON")?;
    let of_mysql = mysql.certificates().context("certificates of MySQL")?;
    let ours = Certificates::make(&dir.path().join("ours"))?;
    let config = dir.path().join("onair.toml");
    let keyspace = format!("t{:032x}", onair_store::cells::random_id());
    let written = |ca: &Path| {
        let text = format!(
            r#"
[source]
url = "mysql://onair:secret@localhost:{port}?ssl-mode=verify-full&ssl-ca={mysql_ca}"
[[feed]]
name = "room"
table = "live.room"
live_when = "live_status = 1"
columns = ["uid", "title"]
buckets = 2
[store.scylla]
nodes = ["{node}"]
keyspace = "{keyspace}"
replication = ["1"]
request_timeout = "10s"
connect_timeout = "10s"
ca_file = {ca:?}
certificate_file = {client:?}
key_file = {client_key:?}
[server.tls]
certificate = {certificate:?}
key = {key:?}
client_ca = {client_ca:?}
"#,
            port = mysql.port(),
            mysql_ca = of_mysql.authority.display(),
            node = cassandra().context("a Cassandra")?.address(),
            client = of_node.client,
            client_key = of_node.client_key,
            certificate = ours.server,
            key = ours.server_key,
            client_ca = ours.authority,
        );
        std::fs::write(&config, text)?;
        Ok::<_, anyhow::Error>(())
    };

    // Another authority than the node's: no word to it.
    written(&ours.authority)?;
    let refused = init(&config)?;
    ensure!(
        !refused.status.success(),
        "a node that nobody knows was taken"
    );
    written(&of_node.authority)?;
    let made = init(&config)?;
    ensure!(made.status.success(), "{made:?}");

    let data = dir.path().join("data").to_string_lossy().into_owned();
    let more = ["--data-dir", &data];
    let mut onair = OnAir::role("up", "tls", &config, dir.path(), &more)?;
    onair.start()?;
    let tls = onair_sdk::Tls::new()
        .ca_file(&ours.authority)
        .identity_files(&ours.client, &ours.client_key);
    let url = format!("https://{}", onair.address());
    let feed = Feed::<Raw>::builder([url.as_str()], "room").tls(tls);
    let feed = feed.connect().await?;
    mysql.sql(
        "INSERT INTO live.room (id, uid, area_id, title, live_status) VALUES (424242, 7, 1, 'by TLS', 1)",
    )?;
    let executed = mysql.sql("SELECT REPLACE(@@gtid_executed, '\n', '')")?;
    feed.wait_for(executed.trim().replace("\\n", "").as_str())
        .await?;
    ensure!(
        feed.snapshot().get(&424_242_u64).is_some(),
        "the row did not come"
    );
    ensure!(feed.status().state == State::Live, "{:?}", feed.status());
    onair.stop()
}

/// `store init` in a process of its own.
fn init(config: &Path) -> Result<std::process::Output> {
    let mut command = Command::new(binary(Build::Engines)?);
    command.args(["store", "init", "--config"]).arg(config);
    Ok(command.output()?)
}
