//! Rooms by their area: `cargo run -p onair-sdk --example secondary_index`, beside `onair up`.

use std::time::Duration;

use onair_sdk::{Feed, FromRow, RowError, RowRef};

#[derive(Clone)]
struct Room {
    area_id: Option<u32>,
    title: Option<String>,
}

impl FromRow for Room {
    fn from_row(row: RowRef<'_>) -> Result<Self, RowError> {
        Ok(Room {
            area_id: row.get("area_id")?,
            title: row.get("title")?,
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rooms = Feed::<Room>::connect(["http://127.0.0.1:7400"], "room").await?;
    let mut by_area = rooms.index(|room| room.area_id);
    loop {
        // To the newest version: costs what changed.
        by_area.refresh();
        let largest = by_area.values().max_by_key(|area| by_area.count(*area));
        if let Some(area) = largest {
            let version = by_area.snapshot().version();
            println!("{version}: area {area:?} has {} rooms", by_area.count(area));
            for (key, room) in by_area.get(area).take(3) {
                println!(
                    "  {key:?} {}",
                    room.title.as_deref().unwrap_or("(no title)")
                );
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
