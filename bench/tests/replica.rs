//! A server that follows another, as MySQL does it.

use anyhow::{Result, ensure};
use onair_xtask::servers::{Flavor, Options, Server};

use crate::world::PATIENCE;

pub(crate) fn replica_of(source: &Server) -> Result<Server> {
    let replica = Server::start_own(Flavor::Mysql97, Options::default())?;
    source.create_user("replica", "secret", &["REPLICATION SLAVE ON *.*"])?;
    replica.sql(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'replica',
           SOURCE_PASSWORD = 'secret', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;
         START REPLICA;",
        source.port()
    ))?;
    Ok(replica)
}

pub(crate) fn executed(server: &Server) -> Result<String> {
    let set = server.sql("SELECT REPLACE(@@gtid_executed, '\n', '')")?;
    Ok(set.trim().replace("\\n", ""))
}

/// Waits until the replica has what its source had.
pub(crate) fn caught_up(replica: &Server, set: &str) -> Result<()> {
    let answer = replica.sql(&format!(
        "SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {})",
        PATIENCE.as_secs()
    ))?;
    ensure!(
        answer.trim() == "0",
        "the replica does not catch up: {answer}"
    );
    Ok(())
}
