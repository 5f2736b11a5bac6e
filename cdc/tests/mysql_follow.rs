//! Following the binlog of a real server.

use anyhow::Result;
use onair_cdc::source::Source as _;
use onair_xtask::servers::Server;

use crate::on_each_server;
use crate::servers::{database, read_until, source};

on_each_server!(a_dump_begins_just_after_a_gtid_set);

const XID: u8 = 16;
const ROTATE: u8 = 4;

async fn a_dump_begins_just_after_a_gtid_set(server: &Server) -> Result<()> {
    database(server, "follow_from")?;
    server.sql("CREATE TABLE follow_from.t (id INT PRIMARY KEY, v VARBINARY(20)); INSERT INTO follow_from.t VALUES (1, 'before')")?;
    let source = source(server);
    let before = source.identity().await?;
    server.sql("INSERT INTO follow_from.t VALUES (2, 'after')")?;
    let after = source.identity().await?;
    assert!(after.executed.contains_set(&before.executed));
    assert!(!before.executed.contains_set(&after.executed));

    let mut events = source.follow(&before.executed).await?;
    let seen = read_until(&mut *events, |event| event.kind == XID).await?;
    assert_eq!(seen[0].kind, ROTATE);
    let has = |text: &[u8]| {
        seen.iter()
            .any(|event| event.body.windows(text.len()).any(|window| window == text))
    };
    assert!(has(b"after"));
    assert!(!has(b"before"));
    Ok(())
}
