//! Each engine that can be fetched: started, killed, frozen and started again.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Result;
use onair_xtask::servers::{Cassandra, Engine, Kafka};

#[test]
fn cassandra_survives_kill_9_and_ends_with_us() -> Result<()> {
    if Engine::Cassandra.is_left_out() {
        eprintln!("NOT RUN cassandra: left out");
        return Ok(());
    }
    let server = Cassandra::start_own(None)?;
    let address = server.address().to_owned();
    let port = address.rsplit(':').next().unwrap().parse::<u16>()?;
    let process = server.process_id();
    TcpStream::connect(&address)?;

    server.kill9()?;
    assert_eq!(server.process_id(), None);
    // Dead at once, and the port is free for the restart.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    server.restart()?;
    assert_eq!(server.address(), address);
    assert_ne!(server.process_id(), process);

    server.sigstop()?;
    server.sigcont()?;
    // In good order, and from a frozen state too.
    server.sigstop()?;
    server.stop()?;
    server.restart()?;
    TcpStream::connect(&address)?;
    let data = server.data_dir()?;
    drop(server);
    assert!(!data.exists());
    assert!(TcpStream::connect(&address).is_err());
    Ok(())
}

#[test]
fn kafka_survives_kill_9_and_ends_with_us() -> Result<()> {
    if Engine::Kafka.is_left_out() {
        eprintln!("NOT RUN kafka: left out");
        return Ok(());
    }
    let server = Kafka::start_own(None)?;
    let brokers = server.brokers().to_owned();
    let port = brokers.rsplit(':').next().unwrap().parse::<u16>()?;
    let process = server.process_id();

    server.kill9()?;
    assert_eq!(server.process_id(), None);
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    server.restart()?;
    assert_eq!(server.brokers(), brokers);
    assert_ne!(server.process_id(), process);

    server.sigstop()?;
    server.sigcont()?;
    server.sigstop()?;
    server.stop()?;
    server.restart()?;
    TcpStream::connect(&brokers)?;
    let data = server.data_dir()?;
    drop(server);
    assert!(!data.exists());
    assert!(TcpStream::connect(&brokers).is_err());
    Ok(())
}
