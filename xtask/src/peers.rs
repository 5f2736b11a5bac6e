//! Foreign programs that the benches measure us beside: built from bench/peers with the machine's Go and Maven into the
//! target folder, and run from there.
//!
//! In: sources of this repository, packages from the registries that `go` and `mvn` are set to. Out: command lines. What
//! may go wrong: a tool or a download is missing, then the peer is not run and the reason is said; or a build fails.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cargo;
use crate::servers::packages::{MAVEN_PLUGIN, copy_maven, on_path};
use crate::servers::place::remove_dir;
use crate::servers::process::{command_bound_to_us, run};

/// A program under bench/peers. Its jobs are in the README there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// go-mysql and grpc-go.
    Go,
    Debezium,
    Hollow,
}

/// How [`Peer::build`] ended. A build that failed is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Into this folder.
    Built(PathBuf),
    /// The machine lacks something: what.
    Missing(String),
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Go, Self::Debezium, Self::Hollow];

    /// Of its folder too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Debezium => "debezium",
            Self::Hollow => "hollow",
        }
    }

    /// A command that runs it, bound to the life of this process (start it with
    /// [`crate::servers::process::spawn`]). Add the job.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub fn command(self) -> Result<Command, String> {
        self.command_in(&self.home())
    }

    fn command_in(self, home: &Path) -> Result<Command, String> {
        if !home.is_dir() {
            return Err("not built: run `cargo xtask peers`".to_owned());
        }
        if self == Self::Go {
            return Ok(command_bound_to_us(home.join(GO_BINARY)));
        }
        on_path("java", "install a Java runtime, 17 or later")
            .map_err(|error| format!("{error:#}"))?;
        let mut classpath = home.join(JAVA_OUT).join("classes").into_os_string();
        classpath.push(":");
        classpath.push(home.join(JAVA_LIB).join("*"));
        let mut command = command_bound_to_us("java");
        command
            .arg("-cp")
            .arg(classpath)
            .arg(format!("onair.peers.{self}.Main"));
        // The machine's settings for its own programs are not for these.
        for variable in ["CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"] {
            command.env_remove(variable);
        }
        Ok(command)
    }

    /// Builds it anew. What was built before stays when something is missing or fails.
    ///
    /// # Errors
    /// When all it needs is there and it does not build.
    pub fn build(self) -> Result<Outcome> {
        if let Err(error) = self.tools() {
            return Ok(Outcome::Missing(format!("{error:#}")));
        }
        let home = self.home();
        let work = home.with_extension("new");
        remove_dir(&work)?;
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        if let Err(error) = self.download(&work) {
            remove_dir(&work)?;
            return Ok(Outcome::Missing(format!("{error:#}")));
        }
        self.compile(&work)?;
        // Only a whole one ever has the name that others look for.
        remove_dir(&home)?;
        fs::rename(&work, &home)
            .with_context(|| format!("cannot rename {} to {}", work.display(), home.display()))?;
        Ok(Outcome::Built(home))
    }

    fn tools(self) -> Result<()> {
        match self {
            Self::Go => on_path("go", "install Go, as new as bench/peers/go/go.mod says"),
            Self::Debezium | Self::Hollow => {
                on_path("javac", "install a Java development kit, 17 or later")?;
                on_path("mvn", "install the package maven")
            }
        }
    }

    fn download(self, work: &Path) -> Result<()> {
        let what = format!("downloading what {self} is built of");
        match self {
            Self::Go => self.run("go", ["mod", "download"], &what),
            Self::Debezium | Self::Hollow => {
                copy_maven(&self.source(), &work.join(JAVA_LIB))?;
                let plugins = format!("{MAVEN_PLUGIN}:resolve-plugins");
                self.run("mvn", ["-q", "-B", &plugins], &what)
            }
        }
    }

    fn compile(self, work: &Path) -> Result<()> {
        let what = format!("building {self}");
        match self {
            Self::Go => {
                let to = work.join(GO_BINARY).into_os_string();
                let arguments = ["build", "-trimpath", "-o"].map(OsString::from);
                self.run("go", arguments.into_iter().chain([to, ".".into()]), &what)
            }
            Self::Debezium | Self::Hollow => {
                let mut out = OsString::from("-Dout=");
                out.push(work.join(JAVA_OUT));
                let arguments = ["-o", "-q", "-B", "compile"].map(OsString::from);
                self.run("mvn", arguments.into_iter().chain([out]), &what)
            }
        }
    }

    fn run(
        self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        what: &str,
    ) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.source());
        run(&mut command, what).map(drop)
    }

    fn source(self) -> PathBuf {
        cargo::repository().join("bench/peers").join(self.name())
    }

    fn home(self) -> PathBuf {
        cargo::target_dir().join("peers").join(self.name())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const GO_BINARY: &str = "peer";
const JAVA_LIB: &str = "lib";
const JAVA_OUT: &str = "build";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_not_built_says_how() {
        for peer in Peer::ALL {
            let reason = peer.command_in(Path::new("/nowhere")).unwrap_err();
            assert_eq!(reason, "not built: run `cargo xtask peers`");
        }
    }

    #[test]
    fn one_that_is_built_is_bound_to_us() {
        let home = tempfile::tempdir().unwrap();
        let command = Peer::Go.command_in(home.path()).unwrap();
        assert_eq!(command.get_program(), "setpriv");
        let last = command.get_args().last();
        assert_eq!(last, Some(home.path().join("peer").as_os_str()));
    }
}
