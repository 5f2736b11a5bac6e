//! Every character of every character set, converted by the server and by us.

use anyhow::{Context as _, Result};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use onair_cdc::decode::collation_name;
use onair_cdc::encode::charset::Charset;
use onair_xtask::servers::Server;

use crate::follow::dialect;
use crate::on_each_server;
use crate::servers::database;

on_each_server!(
    characters_are_converted_as_the_server_does,
    collations_have_the_ids_that_we_know,
);

const DATABASE: &str = "charsets";

async fn characters_are_converted_as_the_server_does(server: &Server) -> Result<()> {
    database(server, DATABASE)?;
    let mut session = Conn::new(Opts::from_url(&server.url("root", DATABASE))?).await?;
    let set = "SET NAMES utf8mb4, sql_mode = ''";
    session.query_drop(set).await?;
    session
        .query_drop("CREATE TABLE point (c VARCHAR(1) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY)")
        .await?;
    let points: Vec<String> = ('\u{1}'..=char::MAX)
        .filter(|&c| c < '\u{10000}' || (c as u32).is_multiple_of(37))
        .map(|c| format!("(0x{})", hex(c.encode_utf8(&mut [0; 4]).as_bytes())))
        .collect();
    for some in points.chunks(20_000) {
        session
            .query_drop(format!("INSERT INTO point VALUES {}", some.join(",")))
            .await?;
    }
    let names: Vec<String> = session
        .query("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS ORDER BY 1")
        .await?;
    let mut unread = Vec::new();
    for name in names {
        let Some(charset) = Charset::named(&name) else {
            unread.push(name);
            continue;
        };
        // To the set and back, by the server; `?` is a character that the set does not have.
        let rows: Vec<(Vec<u8>, String)> = session
            .query(format!(
                "SELECT code, CONVERT(CONVERT(code USING {name}) USING utf8mb4) FROM \
                 (SELECT CAST(CONVERT(c USING {name}) AS BINARY) AS code FROM point) AS codes \
                 WHERE CONVERT(code USING {name}) <> CONVERT('?' USING {name})"
            ))
            .await
            .with_context(|| name.clone())?;
        assert!(rows.len() >= 126, "{name}: {} characters", rows.len());
        // tis620 has U+FFFD itself for bytes without a character.
        for (code, expected) in rows.iter().filter(|(_, expected)| expected != "\u{fffd}") {
            let mut utf8 = Vec::new();
            let invalid = charset.append(code, &mut utf8);
            assert_eq!(
                (std::str::from_utf8(&utf8)?, invalid),
                (&**expected, 0),
                "{name} {code:02x?}"
            );
        }
        eprintln!("{name}: {} characters", rows.len());
    }
    let refused = ["big5", "binary", "eucjpms", "gb18030", "swe7", "ujis"];
    unread.retain(|name| !refused.contains(&&**name));
    assert_eq!(unread, [""; 0]);
    Ok(())
}

async fn collations_have_the_ids_that_we_know(server: &Server) -> Result<()> {
    let mut session = Conn::new(Opts::from_url(&server.url("root", ""))?).await?;
    let all = if server.flavor().is_mariadb() {
        "SELECT ID, FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID > 0"
    } else {
        "SELECT ID, COLLATION_NAME FROM information_schema.COLLATIONS"
    };
    let all: Vec<(u32, String)> = session.query(all).await?;
    assert!(all.len() > 200);
    for (id, name) in all {
        // utf8mb3 was called utf8 before.
        let name = match name.strip_prefix("utf8_") {
            Some(rest) => format!("utf8mb3_{rest}"),
            None => name,
        };
        assert_eq!(
            collation_name(dialect(server), id).as_deref(),
            Some(&*name),
            "{id}"
        );
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
