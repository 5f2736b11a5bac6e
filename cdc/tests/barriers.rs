//! What ends an epoch in the decoder: rows that do not tell everything, and tables that are no longer what
//! the feed was bound to.

use anyhow::{Context as _, Result};
use onair_xtask::servers::Server;

use crate::follow::Follower;
use crate::on_each_server;
use crate::servers::{database, feed, source, table_name};

on_each_server!(
    changed_columns_are_barriers,
    other_changes_are_not,
    incomplete_images_are_barriers,
);

const TABLE: &str = "CREATE TABLE room (id INT PRIMARY KEY, other INT, live_status TINYINT, \
    title VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, kind ENUM('a', 'b'), hash BINARY(4), price DECIMAL(10,2))";

const INSERT: &str = "INSERT INTO room (id, live_status) VALUES (1, 1); DELETE FROM room;";

async fn follower(server: &Server, database_name: &str) -> Result<Follower> {
    database(server, database_name)?;
    server.sql(&format!("USE {database_name}; {TABLE}"))?;
    let source = source(server);
    let columns = ["title", "kind", "hash", "price"];
    let name = table_name(database_name, "room");
    let feed = feed(&source, &name, "live_status = 1", &columns).await?;
    Follower::new(server, &source, &[feed]).await
}

async fn changed_columns_are_barriers(server: &Server) -> Result<()> {
    for (alter, expected) in [
        ("RENAME COLUMN title TO name", "column title is gone"),
        ("DROP COLUMN live_status", "column live_status is gone"),
        ("MODIFY live_status INT", "column live_status is INT now"),
        (
            "MODIFY live_status TINYINT UNSIGNED",
            "column live_status is UNSIGNED now",
        ),
        ("MODIFY id INT UNSIGNED", "column id is UNSIGNED now"),
        (
            "MODIFY title VARCHAR(40) CHARACTER SET latin1",
            "column title has latin1_swedish_ci now, not utf8mb4_bin",
        ),
        (
            "MODIFY title VARCHAR(40) COLLATE utf8mb4_general_ci",
            "column title has utf8mb4_general_ci now, not utf8mb4_bin",
        ),
        (
            "MODIFY title VARBINARY(40)",
            "column title has binary now, not utf8mb4_bin",
        ),
        (
            "MODIFY kind ENUM('b', 'a')",
            "column kind has other labels now",
        ),
        (
            "MODIFY kind ENUM('a', 'b', 'c')",
            "column kind has other labels now",
        ),
        (
            "MODIFY hash BINARY(5)",
            "column hash is CHAR or BINARY of 5 bytes now",
        ),
        (
            "MODIFY hash CHAR(4) CHARACTER SET latin1",
            "column hash is text now",
        ),
        (
            "MODIFY price DECIMAL(10,3)",
            "column price is DECIMAL(10,3) now",
        ),
        (
            "DROP PRIMARY KEY, ADD PRIMARY KEY (id, live_status)",
            "its primary key is another one now",
        ),
        ("DROP PRIMARY KEY", "its primary key is another one now"),
    ] {
        let mut follower = follower(server, "changed").await?;
        let insert = match alter {
            "DROP COLUMN live_status" => "INSERT INTO room (id) VALUES (1);",
            _ => INSERT,
        };
        server.sql(&format!("USE changed; ALTER TABLE room {alter}; {insert}"))?;
        let reason = follower.barrier().await.context(alter)?;
        assert_eq!(reason, format!("changed.room: {expected}"), "{alter}");
    }
    Ok(())
}

async fn other_changes_are_not(server: &Server) -> Result<()> {
    let mut follower = follower(server, "unchanged").await?;
    for alter in [
        "ADD COLUMN first_now TEXT FIRST",
        "DROP COLUMN other",
        "MODIFY price DECIMAL(10,2) AFTER id",
        "MODIFY title VARCHAR(400) COLLATE utf8mb4_bin NOT NULL DEFAULT ''",
        "ADD INDEX (live_status)",
    ] {
        server.sql(&format!(
            "USE unchanged; ALTER TABLE room {alter}; {INSERT}"
        ))?;
        assert_eq!(follower.changes().await?.len(), 1, "{alter}");
        assert_eq!(follower.changes().await?.len(), 1, "{alter}");
    }
    Ok(())
}

async fn incomplete_images_are_barriers(server: &Server) -> Result<()> {
    for image in ["MINIMAL", "NOBLOB"] {
        let mut follower = follower(server, "incomplete").await?;
        server.sql(&format!(
            "USE incomplete; ALTER TABLE room ADD big TEXT; SET SESSION binlog_row_image = {image}; \
             INSERT INTO room (id, live_status, title) VALUES (1, 1, 'x'); UPDATE room SET live_status = 0;"
        ))?;
        let reason = follower.barrier().await?;
        let expected = "its binlog_row_image is MINIMAL or NOBLOB, FULL is needed";
        assert!(reason.contains(expected), "{image}: {reason}");
    }
    Ok(())
}
