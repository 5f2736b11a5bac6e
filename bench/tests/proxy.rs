//! The TCP proxy: each thing that it can do to a connection, and what both ends see of it.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use onair_bench::proxy::{Carry, Door, Proxy, Way};
use onair_bench::seed::seed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// Until something that must come has not.
const PATIENCE: Duration = Duration::from_secs(20);

/// In it something that must not come would have.
const SILENCE: Duration = Duration::from_millis(200);

/// A server, and the proxy in front of it.
struct World {
    server: TcpListener,
    proxy: Proxy,
}

impl World {
    async fn new() -> Result<Self> {
        let server = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxy = Proxy::to(&server.local_addr()?.to_string(), seed("proxy")).await?;
        Ok(World { server, proxy })
    }

    /// The two ends of a connection.
    async fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let client = TcpStream::connect(self.proxy.address()).await?;
        let (server, _) = timeout(PATIENCE, self.server.accept()).await??;
        Ok((client, server))
    }
}

async fn said(from: &mut TcpStream, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    timeout(PATIENCE, from.read_exact(&mut bytes)).await??;
    Ok(bytes)
}

/// Nothing comes, and the connection stays.
async fn is_silent(from: &mut TcpStream) -> bool {
    timeout(SILENCE, from.read_u8()).await.is_err()
}

async fn is_reset(from: &mut TcpStream) -> Result<bool> {
    let read = timeout(PATIENCE, from.read_u8()).await?;
    Ok(read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset))
}

/// Bytes that say where in the stream they are.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * at) >> 7) as u8).collect()
}

#[tokio::test]
async fn passed_both_ways_to_the_end() -> Result<()> {
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    let bytes = pattern(3_000_000);
    let sends = async {
        client.write_all(&bytes).await?;
        client.shutdown().await
    };
    let mut read = Vec::new();
    let (sent, received) = tokio::join!(sends, server.read_to_end(&mut read));
    sent?;
    received?;
    assert!(read == bytes);
    // The other direction is still open.
    server.write_all(b"answer").await?;
    drop(server);
    read.clear();
    client.read_to_end(&mut read).await?;
    assert_eq!(read, b"answer");
    let counts = world.proxy.counts();
    assert_eq!((counts.accepted, counts.reset), (1, 0));
    assert_eq!((counts.up.bytes, counts.down.bytes), (3_000_000, 6));
    Ok(())
}

#[tokio::test]
async fn delayed_in_order_and_many_at_a_time() -> Result<()> {
    const LEAST: Duration = Duration::from_millis(100);
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    let jitter = Duration::from_millis(50);
    let least = LEAST;
    world.proxy.set(Way::Up, Carry::Delay { least, jitter });
    let bytes = pattern(100);
    let begun = Instant::now();
    for byte in &bytes {
        client.write_u8(*byte).await?;
        sleep(Duration::from_millis(1)).await;
    }
    let sent = begun.elapsed();
    assert_eq!(said(&mut server, 1).await?, bytes[..1]);
    assert!(begun.elapsed() >= LEAST);
    assert_eq!(said(&mut server, 99).await?, bytes[1..]);
    // Not one delay after another.
    assert!(begun.elapsed() < sent + 10 * LEAST, "{:?}", begun.elapsed());
    assert!(world.proxy.counts().up.delayed > 1);
    // The other direction is not.
    server.write_u8(7).await?;
    assert_eq!(said(&mut client, 1).await?, [7]);
    // More than is held for late: nothing is lost, and all of it is behind what was there.
    let bytes = pattern(2_000_000);
    let more = async {
        client.write_all(&bytes[..1_000_000]).await?;
        world.proxy.set(Way::Up, Carry::Pass);
        client.write_all(&bytes[1_000_000..]).await
    };
    let (sent, received) = tokio::join!(more, said(&mut server, bytes.len()));
    sent?;
    assert!(received? == bytes);
    Ok(())
}

#[tokio::test]
async fn a_way_that_loses_bytes_stays_lost() -> Result<()> {
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    world.proxy.set(Way::Down, Carry::Vanish);
    // Nothing was said meanwhile, so nothing is missing.
    sleep(SILENCE).await;
    world.proxy.set(Way::Down, Carry::Pass);
    server.write_u8(1).await?;
    assert_eq!(said(&mut client, 1).await?, [1]);
    world.proxy.set(Way::Down, Carry::Vanish);
    server.write_all(b"answer").await?;
    assert!(is_silent(&mut client).await);
    // One way only.
    client.write_all(b"request").await?;
    assert_eq!(said(&mut server, 7).await?, b"request");
    world.proxy.set(Way::Down, Carry::Pass);
    server.write_all(b"later").await?;
    assert!(is_silent(&mut client).await, "a stream has no holes");
    // Nor does the client hear that the server has ended.
    drop(server);
    assert!(is_silent(&mut client).await);
    let down = world.proxy.counts().down;
    assert_eq!((down.vanished, down.vanished_ends), (11, 1));
    // A new connection is whole, and the lost one can be ended.
    let (mut client2, mut server2) = world.connect().await?;
    server2.write_u8(2).await?;
    assert_eq!(said(&mut client2, 1).await?, [2]);
    world.proxy.reset();
    assert!(is_reset(&mut client).await?);
    Ok(())
}

#[tokio::test]
async fn what_is_late_is_lost_with_the_rest() -> Result<()> {
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    let (least, jitter) = (PATIENCE, Duration::ZERO);
    world.proxy.set(Way::Up, Carry::Delay { least, jitter });
    client.write_all(b"late").await?;
    while world.proxy.counts().up.delayed == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    world.proxy.set(Way::Up, Carry::Vanish);
    while world.proxy.counts().up.vanished < 4 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(is_silent(&mut server).await);
    Ok(())
}

#[tokio::test]
async fn stalled_until_the_sender_is_full_and_then_all_of_it() -> Result<()> {
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    world.proxy.set_both(Carry::Stall);
    let bytes = pattern(32 << 20);
    let mut written = 0;
    // The kernels' buffers fill up, and no more is taken.
    while let Ok(more) = timeout(SILENCE, client.write(&bytes[written..])).await {
        written += more?;
    }
    assert!(written < bytes.len());
    server.write_u8(3).await?;
    assert!(is_silent(&mut client).await && is_silent(&mut server).await);
    let counts = world.proxy.counts();
    assert_eq!((counts.up.stalled, counts.down.stalled), (1, 1));
    assert_eq!((counts.up.bytes, counts.down.bytes), (0, 0));
    world.proxy.set_both(Carry::Pass);
    assert!(said(&mut server, written).await? == bytes[..written]);
    assert_eq!(said(&mut client, 1).await?, [3]);
    Ok(())
}

#[tokio::test]
async fn reset_at_once_and_by_the_next_byte() -> Result<()> {
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    // Until then the proxy may still be at the beginning of it.
    client.write_u8(1).await?;
    said(&mut server, 1).await?;
    world.proxy.reset();
    assert!(is_reset(&mut client).await? && is_reset(&mut server).await?);
    world.proxy.set(Way::Down, Carry::Reset);
    let (mut client, mut server) = world.connect().await?;
    client.write_all(b"request").await?;
    assert_eq!(said(&mut server, 7).await?, b"request");
    server.write_u8(1).await?;
    assert!(is_reset(&mut client).await? && is_reset(&mut server).await?);
    let counts = world.proxy.counts();
    assert_eq!(
        (counts.reset, counts.down.reset, counts.up.reset),
        (2, 1, 0)
    );
    // One that an end resets is reset at the other.
    world.proxy.set(Way::Down, Carry::Pass);
    let (client, mut server) = world.connect().await?;
    client.set_zero_linger()?;
    drop(client);
    assert!(is_reset(&mut server).await?);
    Ok(())
}

#[tokio::test]
async fn sliced_into_small_writes() -> Result<()> {
    const MOST: usize = 3;
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    let most = NonZeroUsize::new(MOST).expect("three");
    world.proxy.set(Way::Up, Carry::Slice { most });
    let bytes = pattern(20_000);
    client.write_all(&bytes).await?;
    assert!(said(&mut server, bytes.len()).await? == bytes);
    let up = world.proxy.counts().up;
    assert_eq!(up.bytes, 20_000);
    assert!(up.slices >= 20_000 / MOST as u64 && up.slices < 20_000);
    Ok(())
}

#[tokio::test]
async fn refused_held_and_let_in_again() -> Result<()> {
    let world = World::new().await?;
    let (mut client, mut server) = world.connect().await?;
    for _ in 0..3 {
        world.proxy.set_door(Door::Refuse).await?;
        let refused = TcpStream::connect(world.proxy.address()).await;
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // Those that are in stay in.
        client.write_u8(1).await?;
        assert_eq!(said(&mut server, 1).await?, [1]);
        world.proxy.set_door(Door::Hold).await?;
        let mut held = TcpStream::connect(world.proxy.address()).await?;
        held.write_all(b"hello").await?;
        assert!(timeout(SILENCE, world.server.accept()).await.is_err());
        world.proxy.set_door(Door::Open).await?;
        let (mut server, _) = timeout(PATIENCE, world.server.accept()).await??;
        assert_eq!(said(&mut server, 5).await?, b"hello");
    }
    world.proxy.set_door(Door::Hold).await?;
    let mut held = TcpStream::connect(world.proxy.address()).await?;
    while world.proxy.counts().held < 4 {
        sleep(Duration::from_millis(1)).await;
    }
    world.proxy.set_door(Door::Refuse).await?;
    assert!(is_reset(&mut held).await?);
    Ok(())
}

#[tokio::test]
async fn led_elsewhere_and_to_nobody() -> Result<()> {
    let world = World::new().await?;
    let other = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = other.local_addr()?.to_string();
    let (mut before, mut server) = world.connect().await?;
    world.proxy.lead_to(&address);
    let _after = TcpStream::connect(world.proxy.address()).await?;
    timeout(PATIENCE, other.accept()).await??;
    before.write_u8(1).await?;
    assert_eq!(said(&mut server, 1).await?, [1]);
    drop(other);
    let mut nobody = TcpStream::connect(world.proxy.address()).await?;
    assert!(is_reset(&mut nobody).await?);
    assert_eq!(world.proxy.counts().unreachable, 1);
    // And with the proxy all ends.
    drop(world.proxy);
    assert!(timeout(PATIENCE, before.read_u8()).await?.is_err());
    Ok(())
}
