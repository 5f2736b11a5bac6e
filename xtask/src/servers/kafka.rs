//! Apache Kafka: one node that is broker and controller.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::certificates::Certificates;
use super::child::Held;
use super::java::{Engine, Jars, fetch_engine};
use super::place::Berth;
use super::process::{self, Signal};

/// A running node, ours or one whose address the user gave. All methods take `&self`, so a test
/// can kill it while its other threads use it.
#[derive(Debug)]
pub struct Kafka {
    /// `host:port`, of a given one perhaps several with commas between them.
    brokers: String,
    /// Absent for a given address.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    child: Held,
    jars: Jars,
    berth: Berth,
    /// Brokers speak to the controller there; this one speaks to itself.
    controller: Berth,
    behind: Option<Behind>,
    secure: Option<Secure>,
}

/// A way in by TLS, for users with passwords.
#[derive(Debug)]
struct Secure {
    berth: Berth,
    certificates: Certificates,
}

/// The user of [`Kafka::start_secure`], by PLAIN and by SCRAM-SHA-512.
pub const USER: &str = "onair";
/// Its password.
pub const PASSWORD: &str = "secret";

/// A second way in, for clients that are to stay on a proxy.
#[derive(Debug)]
struct Behind {
    /// Where the broker listens for them.
    berth: Berth,
    /// The port that it sends them to: the proxy's.
    advertised: u16,
}

impl Kafka {
    /// Starts a node, fetching it first if it must be, and returns when it answers. With an address
    /// in `ONAIR_TEST_KAFKA` it is that one instead, which then is shared: use topics of your own.
    pub fn start() -> Result<Self> {
        match Engine::Kafka.given_address() {
            Some(brokers) => Ok(Self { brokers, own: None }),
            None => Self::start_own(None),
        }
    }

    /// [`Kafka::start`] for those who kill it or freeze it: always one of our own, on `port` or a
    /// free one.
    pub fn start_own(port: Option<u16>) -> Result<Self> {
        let berth = match port {
            Some(port) => Berth::take_port(port)?,
            None => Berth::take()?,
        };
        Self::start_in(berth, None, None)
    }

    /// [`Kafka::start_own`] for clients behind a proxy that listens on port `proxy` of loopback and
    /// leads to [`Kafka::behind`]: the broker sends them back to the proxy. Who begins at
    /// [`Kafka::brokers`] does not meet it.
    pub fn start_behind(proxy: u16) -> Result<Self> {
        let behind = Behind {
            berth: Berth::take()?,
            advertised: proxy,
        };
        Self::start_in(Berth::take()?, Some(behind), None)
    }

    /// [`Kafka::start_own`] with a second way in, [`Kafka::secure`]: TLS with these certificates, of clients too, and a
    /// password of [`USER`].
    pub fn start_secure(certificates: Certificates) -> Result<Self> {
        let secure = Secure {
            berth: Berth::take()?,
            certificates,
        };
        Self::start_in(Berth::take()?, None, Some(secure))
    }

    fn start_in(berth: Berth, behind: Option<Behind>, secure: Option<Secure>) -> Result<Self> {
        let own = Own {
            child: Held::none(Engine::Kafka.name()),
            jars: fetch_engine(Engine::Kafka)?,
            controller: Berth::take()?,
            berth,
            behind,
            secure,
        };
        own.format()?;
        own.start()?;
        Ok(Self {
            brokers: format!("127.0.0.1:{}", own.berth.port),
            own: Some(own),
        })
    }

    /// Where clients begin: `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Where the proxy of [`Kafka::start_behind`] leads to: `host:port`.
    pub fn behind(&self) -> Result<String> {
        let behind = self.own()?.behind.as_ref();
        let behind = behind.context("this Kafka was not started behind a proxy")?;
        Ok(format!("127.0.0.1:{}", behind.berth.port))
    }

    /// Where clients begin that speak TLS: `host:port`.
    pub fn secure(&self) -> Result<String> {
        let secure = self.own()?.secure.as_ref();
        let secure = secure.context("this Kafka was not started with TLS")?;
        Ok(format!("127.0.0.1:{}", secure.berth.port))
    }

    /// Kills it as a power cut would, and returns when it is gone.
    pub fn kill9(&self) -> Result<()> {
        self.own()?.child.kill()
    }

    /// Stops it in good order, if it runs, and starts it again on the same port and data.
    pub fn restart(&self) -> Result<()> {
        let own = self.own()?;
        own.child.stop()?;
        own.start()
    }

    /// Stops it in good order and returns when it is gone; nothing to do when it does not run.
    pub fn stop(&self) -> Result<()> {
        self.own()?.child.stop()
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn sigstop(&self) -> Result<()> {
        self.own()?.child.signal(Signal::Stop)
    }

    /// Wakes it from [`Kafka::sigstop`].
    pub fn sigcont(&self) -> Result<()> {
        self.own()?.child.signal(Signal::Continue)
    }

    /// The id of its process, while it runs and is ours.
    pub fn process_id(&self) -> Option<u32> {
        self.own.as_ref()?.child.process_id()
    }

    /// Everything that it keeps: gone with it.
    pub fn data_dir(&self) -> Result<PathBuf> {
        Ok(self.own()?.dir())
    }

    /// What it has written about itself, for a failing test to print. Its jars bring no logging
    /// along, so it is little.
    pub fn error_log(&self) -> Result<String> {
        self.own()?.log()
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().with_context(|| {
            let variable = Engine::Kafka.variable();
            format!(
                "the Kafka given in {variable} is not ours to control; unset it to have one fetched"
            )
        })
    }
}

const LOG: &str = "kafka.log";
const PROPERTIES: &str = "server.properties";
const KEYSTORE: &str = "keystore.pem";

impl Own {
    fn dir(&self) -> PathBuf {
        self.berth.dir.join("data")
    }

    fn log(&self) -> Result<String> {
        let path = self.dir().join(LOG);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes the data directory, with a cluster id of its own.
    fn format(&self) -> Result<()> {
        let dir = self.dir();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let properties = dir.join(PROPERTIES);
        let text = self.properties();
        if let Some(secure) = &self.secure {
            let keys = &secure.certificates;
            // One file for the key and what it is the key of.
            let both = fs::read_to_string(&keys.server_key)? + &fs::read_to_string(&keys.server)?;
            fs::write(dir.join(KEYSTORE), both)?;
        }
        fs::write(&properties, text)
            .with_context(|| format!("cannot write {}", properties.display()))?;
        let cluster = cluster_id(self.berth.port);
        let mut arguments: Vec<OsString> = ["format", "--ignore-formatted", "-t", &cluster, "-c"]
            .map(OsString::from)
            .into();
        arguments.push(properties.into());
        if self.secure.is_some() {
            let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
            arguments.extend(["--add-scram".into(), user.into()]);
        }
        self.jars
            .run(&flags("-Xmx128m"), "kafka.tools.StorageTool", &arguments)
            .map(drop)
    }

    /// Settings of a node that waits for no others.
    fn properties(&self) -> String {
        let (port, controller) = (self.berth.port, self.controller.port);
        let log = self.dir().join("log");
        let log = log.display();
        let (listens, says) = match &self.behind {
            Some(Behind { berth, advertised }) => (
                format!(",BEHIND://127.0.0.1:{}", berth.port),
                format!(",BEHIND://127.0.0.1:{advertised}"),
            ),
            None => Default::default(),
        };
        let (tls_listens, tls_says, tls) = match &self.secure {
            Some(secure) => (
                format!(",SECURE://127.0.0.1:{}", secure.berth.port),
                format!(",SECURE://127.0.0.1:{}", secure.berth.port),
                self.tls(&secure.certificates),
            ),
            None => Default::default(),
        };
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listens}{tls_listens}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{says}{tls_says}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT,\
             SECURE:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\nlog.dirs={log}\n{tls}{PROPERTIES_TEXT}"
        )
    }

    fn tls(&self, keys: &Certificates) -> String {
        let module = "org.apache.kafka.common.security";
        format!(
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             listener.name.secure.ssl.keystore.type=PEM\n\
             listener.name.secure.ssl.keystore.location={}\n\
             listener.name.secure.ssl.truststore.type=PEM\n\
             listener.name.secure.ssl.truststore.location={}\n\
             listener.name.secure.ssl.client.auth=required\n\
             listener.name.secure.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
             user_{USER}=\"{PASSWORD}\";\n\
             listener.name.secure.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n",
            self.dir().join(KEYSTORE).display(),
            keys.authority.display()
        )
    }

    fn start(&self) -> Result<()> {
        let port = self.berth.port;
        self.child
            .start(|| self.spawn(), || names_a_broker(port), || self.log())
    }

    fn spawn(&self) -> Result<Child> {
        let dir = self.dir();
        let log = dir.join(LOG);
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.jars.bound_command(&flags("-Xmx256m"), "kafka.Kafka");
        command
            .arg(dir.join(PROPERTIES))
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        process::spawn(command)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A test that failed has more to say than what goes wrong here.
        let _ = self.child.kill();
        self.berth.clear();
    }
}

/// A broker that is killed is given up after a second, so that it may come back at once: with the
/// default it takes twelve.
const PROPERTIES_TEXT: &str = "num.partitions=1\nauto.create.topics.enable=false\n\
     offsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
     transaction.state.log.num.partitions=1\ntransaction.state.log.replication.factor=1\n\
     transaction.state.log.min.isr=1\nshare.coordinator.state.topic.num.partitions=1\n\
     share.coordinator.state.topic.replication.factor=1\n\
     share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
     broker.session.timeout.ms=1000\nbroker.heartbeat.interval.ms=100\n\
     initial.broker.registration.timeout.ms=60000\nlog.message.timestamp.type=LogAppendTime\n\
     log.retention.ms=-1\nlog.retention.check.interval.ms=1000\nnum.network.threads=2\n\
     num.io.threads=4\nlog.cleaner.dedupe.buffer.size=4194304\n\
     num.recovery.threads.per.data.dir=2\n";

fn flags(heap: &str) -> Vec<OsString> {
    [
        "-Xms64m",
        heap,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.awt.headless=true",
    ]
    .map(OsString::from)
    .into()
}

/// 16 bytes in base64 that no other server has: 22 characters, the last of which holds two bits.
fn cluster_id(port: u16) -> String {
    let random = RandomState::new().hash_one(port) % 100_000_000_000;
    format!("onair{port:05}{random:011}A")
}

/// Whether it answers a metadata request (key 3, version 4: no topics, make none) with at least
/// one broker. Its port is open a moment before that.
fn names_a_broker(port: u16) -> bool {
    const REQUEST: [u8; 19] = [
        0, 0, 0, 15, // length
        0, 3, 0, 4, 0, 0, 0, 7, 0xff, 0xff, // key, version, number, no client name
        0, 0, 0, 0, 0, // no topics
    ];
    let patience = Duration::from_secs(1);
    let asked = || -> io::Result<[u8; 16]> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&REQUEST)?;
        // Length, number, throttle time, count of brokers.
        let mut answer = [0; 16];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer[12..] != [0; 4])
}
