//! The one binary.

mod system;

use std::num::NonZeroU16;
use std::sync::Arc;

use onair_cdc::config::{ReaderConfig, Settings};
use onair_cdc::demo::{DemoServer, DemoSettings, DemoSource};
use onair_cdc::feed::{FeedConfig, TableName};
use onair_model::Buckets;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let began = std::time::Instant::now();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:7400").await?;
    let feed = FeedConfig {
        name: "room".into(),
        table: TableName {
            database: "live".into(),
            table: "room".into(),
        },
        live_when: "live_status = 1".into(),
        columns: ["uid", "area_id", "title", "live_time"]
            .map(String::from)
            .to_vec(),
        buckets: Buckets::new(NonZeroU16::new(16).ok_or_else(|| anyhow::anyhow!("16"))?),
    };
    let source: Arc<dyn onair_cdc::source::Source> = match std::env::args().nth(1) {
        Some(url) => Arc::new(onair_cdc::mysql::MysqlSource::new(
            onair_cdc::mysql::MysqlConfig::from_url(&url)?,
        )?),
        None => Arc::new(DemoSource::new(DemoServer::start(DemoSettings::default()))),
    };
    let settings = Settings {
        flush_interval: std::time::Duration::ZERO,
        lease_patience: std::time::Duration::ZERO,
        ..Settings::default()
    };
    let mut system = system::start(system::Parts {
        data_dir: "/tmp/onair-data".into(),
        source,
        reader: ReaderConfig {
            source: "demo".into(),
            feeds: vec![feed],
            settings,
        },
        merger: onair_merger::Settings::default(),
        server: onair_server::Settings::default(),
        log_bytes: 64 << 20,
        listener,
        build: "onair".into(),
    })
    .await?;
    system.server.ready().await;
    println!(
        "ready after {:?}: {:?}",
        began.elapsed(),
        system.server.feeds()
    );
    let rooms =
        onair_sdk::Feed::<onair_sdk::Raw>::connect(["http://127.0.0.1:7400"], "room").await?;
    let mut changes = rooms.changes();
    for _ in 0..5 {
        let step = changes.next().await;
        println!(
            "{:?}",
            step.map(|s| (s.from, s.to, s.on.len(), s.change.len(), s.off.len()))
        );
    }
    tokio::select! {
        error = system.failed() => println!("failed: {error}"),
        _ = tokio::signal::ctrl_c() => {}
        () = tokio::time::sleep(std::time::Duration::from_secs(8)) => {}
    }
    println!(
        "{:?} {:?}",
        system.server.feeds(),
        system.reader.borrow().clone()
    );
    system.stop().await;
    Ok(())
}
