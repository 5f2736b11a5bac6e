//! Apache Cassandra 5: one node, with a commit log that loses nothing on kill -9.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
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
pub struct Cassandra {
    /// `host:port` of its CQL.
    address: String,
    /// Absent for a given address.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    child: Held,
    jars: Jars,
    berth: Berth,
    /// Nodes speak to each other there; this one speaks to itself.
    storage: Berth,
    certificates: Certificates,
}

impl Cassandra {
    /// Starts a node, fetching it first if it must be, and returns when it answers. With an address
    /// in `ONAIR_TEST_CASSANDRA` it is that one instead, which then is shared: use a keyspace of
    /// your own.
    pub fn start() -> Result<Self> {
        match Engine::Cassandra.given_address() {
            Some(address) => Ok(Self { address, own: None }),
            None => Self::start_own(None),
        }
    }

    /// [`Cassandra::start`] for those who kill it or freeze it: always one of our own, on `port` or
    /// a free one.
    pub fn start_own(port: Option<u16>) -> Result<Self> {
        let jars = fetch_engine(Engine::Cassandra)?;
        let berth = match port {
            Some(port) => Berth::take_port(port)?,
            None => Berth::take()?,
        };
        let own = Own {
            child: Held::none(Engine::Cassandra.name()),
            jars,
            storage: Berth::take()?,
            certificates: Certificates::make(&berth.dir.join("tls"))?,
            berth,
        };
        own.write_configuration()?;
        own.start()?;
        Ok(Self {
            address: format!("127.0.0.1:{}", own.berth.port),
            own: Some(own),
        })
    }

    /// Where its CQL is: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Those of TLS, which it speaks on the same port to who wants it; none of a given one.
    pub fn certificates(&self) -> Option<&Certificates> {
        Some(&self.own.as_ref()?.certificates)
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

    /// Wakes it from [`Cassandra::sigstop`].
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

    /// What it has written about itself, for a failing test to print.
    pub fn error_log(&self) -> Result<String> {
        self.own()?.log()
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().with_context(|| {
            let variable = Engine::Cassandra.variable();
            format!(
                "the node given in {variable} is not ours to control; unset it to have one fetched"
            )
        })
    }
}

const LOG: &str = "cassandra.log";
const CONFIGURATION: &str = "cassandra.yaml";
const LOGBACK: &str = "logback.xml";
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

    fn write_configuration(&self) -> Result<()> {
        let dir = self.dir();
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let triggers = dir.join("triggers");
        fs::create_dir_all(&triggers)
            .with_context(|| format!("cannot make {}", triggers.display()))?;
        let keys = &self.certificates;
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        // One file for the key and what it is the key of.
        write(KEYSTORE, read(&keys.server_key)? + &read(&keys.server)?)?;
        let settings = configuration(self.berth.port, self.storage.port, &dir);
        write(CONFIGURATION, settings + &encryption(keys, &dir))?;
        write(LOGBACK, LOGBACK_TEXT.to_owned())
    }

    fn start(&self) -> Result<()> {
        let port = self.berth.port;
        self.child
            .start(|| self.spawn(), || answers(port), || self.log())
    }

    fn spawn(&self) -> Result<Child> {
        let dir = self.dir();
        let log = dir.join(LOG);
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let class = "org.apache.cassandra.service.CassandraDaemon";
        let mut command = self.jars.bound_command(&flags(&dir), class);
        command
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

/// What is wrong, and nothing else.
const LOGBACK_TEXT: &str = "<configuration><appender name=\"OUT\" class=\"ch.qos.logback.core.ConsoleAppender\">\
     <encoder><pattern>%d %level %logger{0} %msg%n</pattern></encoder></appender>\
     <root level=\"WARN\"><appender-ref ref=\"OUT\"/></root></configuration>\n";

/// Modules that Cassandra reaches into.
const EXPORTS: [&str; 9] = [
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
];
const OPENS: [&str; 15] = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.lang.reflect",
    "jdk.compiler/com.sun.tools.javac",
    "java.base/java.lang",
    "java.base/java.util",
];

fn flags(dir: &Path) -> Vec<OsString> {
    let mut flags: Vec<OsString> = Vec::new();
    for (flag, modules) in [("--add-exports", &EXPORTS[..]), ("--add-opens", &OPENS[..])] {
        for module in modules {
            flags.extend([flag.into(), format!("{module}=ALL-UNNAMED").into()]);
        }
    }
    // Little memory at first: as root the whole heap is locked in it.
    flags.extend(
        [
            "-Xms128m",
            "-Xmx384m",
            "-Xss256k",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:MaxDirectMemorySize=256m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.net.preferIPv4Stack=true",
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dcassandra-foreground=yes",
            "-Dcassandra.superuser_setup_delay_ms=0",
            "-Dcassandra.ring_delay_ms=0",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        ]
        .map(OsString::from),
    );
    let mut path = |flag: &str, value: &Path| flags.push(super::flag(flag, value));
    path("-Dcassandra.config=file://", &dir.join(CONFIGURATION));
    path("-Dcassandra.storagedir=", dir);
    path("-Dcassandra.logdir=", &dir.join("logs"));
    path("-Dcassandra.triggers_dir=", &dir.join("triggers"));
    path("-Dlogback.configurationFile=", &dir.join(LOGBACK));
    flags
}

fn configuration(port: u16, storage: u16, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "cluster_name: onair\n\
         num_tokens: 1\n\
         initial_token: \"0\"\n\
         auto_bootstrap: false\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         endpoint_snitch: SimpleSnitch\n\
         seed_provider:\n\
         - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n  \
           parameters:\n  \
           - seeds: \"127.0.0.1:{storage}\"\n\
         listen_address: 127.0.0.1\n\
         storage_port: {storage}\n\
         ssl_storage_port: {storage}\n\
         start_native_transport: true\n\
         rpc_address: 127.0.0.1\n\
         native_transport_port: {port}\n\
         authenticator: AllowAllAuthenticator\n\
         authorizer: AllowAllAuthorizer\n\
         role_manager: CassandraRoleManager\n\
         data_file_directories: [\"{dir}/sstables\"]\n\
         commitlog_directory: \"{dir}/commitlog\"\n\
         saved_caches_directory: \"{dir}/caches\"\n\
         hints_directory: \"{dir}/hints\"\n\
         cdc_raw_directory: \"{dir}/cdc\"\n\
         # periodic loses acknowledged writes on kill -9\n\
         commitlog_sync: batch\n\
         commitlog_segment_size: 32MiB\n\
         commitlog_total_space: 256MiB\n\
         disk_failure_policy: die\n\
         commit_failure_policy: die\n\
         memtable_allocation_type: heap_buffers\n\
         memtable_heap_space: 64MiB\n\
         memtable_offheap_space: 64MiB\n\
         file_cache_size: 32MiB\n\
         networking_cache_size: 32MiB\n\
         key_cache_size: 8MiB\n\
         counter_cache_size: 0MiB\n\
         row_cache_size: 0MiB\n\
         concurrent_compactors: 1\n\
         hinted_handoff_enabled: false\n\
         auto_snapshot: false\n\
         paxos_variant: v2\n\
         read_request_timeout: 5000ms\n\
         write_request_timeout: 5000ms\n\
         cas_contention_timeout: 1800ms\n"
    )
}

/// TLS for clients that want it; who shows a certificate must have one of the authority.
fn encryption(certificates: &Certificates, dir: &Path) -> String {
    format!(
        "client_encryption_options:\n  \
           enabled: true\n  \
           optional: true\n  \
           require_client_auth: false\n  \
           ssl_context_factory:\n    \
             class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n  \
           keystore: \"{}\"\n  \
           truststore: \"{}\"\n",
        dir.join(KEYSTORE).display(),
        certificates.authority.display()
    )
}

/// Whether a node answers an OPTIONS request of CQL's protocol 4 with SUPPORTED. The port is open a moment before
/// that.
fn answers(port: u16) -> bool {
    let patience = Duration::from_secs(1);
    let asked = || -> io::Result<[u8; 9]> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0])?;
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        Ok(header)
    };
    asked().is_ok_and(|header| header[4] == 6)
}
