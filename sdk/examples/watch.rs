//! Follows a live set and prints what changes: `cargo run -p onair-sdk --example watch`, beside `onair up`.

use onair_sdk::{Feed, Raw};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rooms = Feed::<Raw>::connect(["http://127.0.0.1:7400"], "room").await?;
    let mut changes = rooms.changes();
    while let Some(step) = changes.next().await {
        let (on, change, off) = (step.on.len(), step.change.len(), step.off.len());
        let count = step.snapshot.len();
        println!(
            "{}: {on} on, {change} changed, {off} off, {count} live",
            step.to
        );
    }
    Ok(())
}
