//! The way to Kafka, broken in every manner under a reader, a merger and a server: what is shown is the truth
//! throughout, and when the way is whole again so is everything.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use onair_bench::proxy::{Carry, Counts, Door, Proxy, Way};
use onair_bench::seed::seed;
use onair_log::testing::Workload;
use onair_log::{EventLog, Partition};
use onair_xtask::servers::{Engine, Kafka};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::feed::Feed;
use super::roles::{Merging, Serving};
use super::{file, is_left_out, log_in, prefix};

/// How long each break lasts, and between two transactions meanwhile.
const BROKEN: Duration = Duration::from_secs(2);
const SPACING: Duration = Duration::from_millis(10);

/// Between two resets of all connections.
const RESETS: Duration = Duration::from_millis(100);

/// How one way to break it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The connections go on.
    Well,
    /// They are lost, and at the end reset: nobody would wait for the system to give them up.
    Reset,
}

struct World {
    proxy: Proxy,
    feed: Feed,
    /// Not behind the proxy.
    direct: Arc<dyn EventLog>,
    serving: Serving,
}

impl World {
    /// Breaks the way, goes on writing, mends it, and waits until all that was written is folded and shown.
    async fn breaks(&mut self, what: &str, ends: Ends, begin: impl AsyncFnOnce(&Proxy)) {
        let begun = Instant::now();
        begin(&self.proxy).await;
        self.write_for(BROKEN).await;
        self.mend(ends).await;
        let took = begun.elapsed();
        self.settle().await;
        println!("{what}: right {:?} after it ended", begun.elapsed() - took);
    }

    /// Goes on writing; what is not acknowledged then is given up, and written again by the next flush.
    async fn write_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let left = end - Instant::now();
            // A flush that is given up is what the next one begins with.
            let _ = timeout(left, self.feed.write(false)).await;
            self.serving.shown(&self.feed);
            sleep(SPACING).await;
        }
    }

    async fn mend(&self, ends: Ends) {
        self.proxy.set_both(Carry::Pass);
        self.proxy.set_door(Door::Open).await.expect("the port");
        if ends == Ends::Reset {
            self.proxy.reset();
        }
    }

    async fn settle(&mut self) {
        self.feed.write(true).await;
        self.feed.until_folded().await;
        self.serving.until_shown(&self.feed).await;
    }

    async fn cuts(&self) -> u64 {
        let ends = self.direct.ends(&self.feed.name()).await.expect("ends");
        let cuts = ends.into_iter().find(|(of, _)| *of == Partition::Cuts);
        cuts.expect("cuts are last").1.high.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_break_of_the_way_to_kafka_is_gone_on_from() {
    if is_left_out(Engine::Kafka) {
        return;
    }
    let seed = seed("the way to Kafka");
    let proxy = Proxy::start(seed).await.expect("a port");
    let server = Kafka::start_behind(proxy.port()).expect("a Kafka");
    proxy.lead_to(&server.behind().expect("it is behind one"));
    let (prefix, dir) = (prefix(), TempDir::new().expect("a folder"));
    // As three processes have it.
    let through = || log_in(&proxy.address(), &prefix);
    let (reader, merger, serving) = (through(), through(), through());
    let direct = log_in(server.brokers(), &prefix);
    let store = file(&dir);
    let workload = Workload::new(seed, 60, 2000);
    let feed = Feed::open("rooms", 3, workload, reader, Arc::clone(&store) as _).await;
    direct.open(&feed.writer.layout).await.expect("the topic");
    let settings = onair_merger::Settings::default();
    let merging = Merging::start(
        std::slice::from_ref(&feed),
        merger,
        Arc::clone(&store) as _,
        settings,
    );
    let serving = Serving::start(&feed, serving, store).await;
    let mut world = World {
        proxy,
        feed,
        direct,
        serving,
    };
    world.settle().await;
    let before = world.proxy.counts();
    assert!(before.accepted > 0, "they come through the proxy");

    let (least, jitter) = (Duration::from_millis(30), Duration::from_millis(50));
    let delay = Carry::Delay { least, jitter };
    let most = NonZeroUsize::new(7).expect("seven");
    let slice = Carry::Slice { most };
    let both = |carry| async move |proxy: &Proxy| proxy.set_both(carry);
    world.breaks("delayed", Ends::Well, both(delay)).await;
    world.breaks("sliced", Ends::Well, both(slice)).await;
    world
        .breaks("stalled", Ends::Well, both(Carry::Stall))
        .await;

    // Acknowledgements are lost, and what they would have said is done.
    let cuts = world.cuts().await;
    let lost = async |proxy: &Proxy| proxy.set(Way::Down, Carry::Vanish);
    lost(&world.proxy).await;
    world.write_for(BROKEN).await;
    assert!(world.cuts().await > cuts, "nothing arrived");
    world.breaks("answers lost", Ends::Reset, lost).await;
    let lost = async |proxy: &Proxy| proxy.set(Way::Up, Carry::Vanish);
    world.breaks("requests lost", Ends::Reset, lost).await;

    let reset = async |proxy: &Proxy| proxy.set(Way::Down, Carry::Reset);
    world.breaks("reset by answers", Ends::Well, reset).await;
    for (what, door) in [("refused", Door::Refuse), ("held", Door::Hold)] {
        let shut = async |proxy: &Proxy| {
            proxy.set_door(door).await.expect("the port");
            proxy.reset();
        };
        world.breaks(what, Ends::Well, shut).await;
    }
    let end = Instant::now() + BROKEN;
    while Instant::now() < end {
        world.proxy.reset();
        world.write_for(RESETS).await;
    }
    world.settle().await;

    let Counts {
        held,
        reset,
        up,
        down,
        ..
    } = world.proxy.counts();
    println!("{:?}", world.proxy.counts());
    assert!(held > 0 && reset > before.reset + 10);
    for way in [up, down] {
        assert!(way.delayed > 0 && way.slices > 0 && way.stalled > 0 && way.vanished > 0);
    }
    assert!(down.reset > 0);
    assert_eq!(merging.of(&world.feed).stopped, []);
    assert_eq!(world.feed.asked().await, [], "nothing was lost");
    merging.stop().await;
    world.serving.stop().await;
}
