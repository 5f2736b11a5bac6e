//! One server, as a test sees it: started, asked, killed, started again, and gone with its data
//! when dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::Flavor;
use super::address::Address;
use super::certificates::Certificates;
use super::fetch::{Dist, fetch};
use super::own::Own;
use super::process::{self, Signal};

/// How a server is started; the default is what nearly every test wants.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// After our own arguments, so that they win: `--binlog-row-metadata=MINIMAL`.
    pub extra_args: Vec<String>,
    /// A data directory to use in place and to keep; an empty or missing one is made.
    /// Without this the server has its own, removed with it.
    pub data_dir: Option<PathBuf>,
    /// Without this a free one, kept through restarts.
    pub port: Option<u16>,
    pub tls: Tls,
}

/// What a server offers to clients that want TLS. None demands it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// The certificates that it makes itself; they name no host. MariaDB 10.11 has none.
    #[default]
    Automatic,
    Off,
    /// Those of [`Server::certificates`], for `localhost` and 127.0.0.1.
    Certified,
}

/// A running server, ours or one whose address the user gave. All methods take `&self`, so a test
/// can kill it while its other threads use it.
#[derive(Debug)]
pub struct Server {
    dist: Dist,
    address: Address,
    /// Absent for a given address.
    own: Option<Own>,
}

impl Server {
    /// Starts a server, fetching it first if it must be, and returns when it answers. With
    /// default options and an address in [`Flavor::variable`] it is that server instead, which
    /// then is shared: use a database of your own.
    pub fn start(flavor: Flavor, options: Options) -> Result<Self> {
        let asked_for_nothing = options.extra_args.is_empty()
            && options.data_dir.is_none()
            && options.port.is_none()
            && options.tls == Tls::Automatic;
        match flavor.given_address() {
            Some(url) if asked_for_nothing => Self::given(flavor, &url),
            _ => Self::start_own(flavor, options),
        }
    }

    /// [`Server::start`] for those who kill it, freeze it or look into its files: always one of
    /// our own.
    pub fn start_own(flavor: Flavor, options: Options) -> Result<Self> {
        let dist = fetch(flavor)?;
        let own = Own::start_on_free_port(&dist, &options)?;
        let address = Address::of_our_own(own.berth.port);
        Ok(Self {
            dist,
            address,
            own: Some(own),
        })
    }

    fn given(flavor: Flavor, url: &str) -> Result<Self> {
        let address = Address::given(url, flavor.variable())?;
        // For the programs: the server may be on a machine whose own are not here.
        let server = Self {
            dist: fetch(flavor)?,
            address,
            own: None,
        };
        server
            .sql("DO 1")
            .with_context(|| format!("cannot use {}", flavor.variable()))?;
        Ok(server)
    }

    pub fn flavor(&self) -> Flavor {
        self.dist.flavor
    }

    pub fn host(&self) -> &str {
        &self.address.host
    }

    pub fn port(&self) -> u16 {
        self.address.port
    }

    /// `mysql://user@host:port/db`. `user` may be `name:password`; `root` is the administrator,
    /// also of a given server, where it may be called otherwise.
    pub fn url(&self, user: &str, db: &str) -> String {
        self.address.url(user, db)
    }

    /// The programs that came with the server.
    pub fn dist(&self) -> &Dist {
        &self.dist
    }

    /// With [`Tls::Certified`].
    pub fn certificates(&self) -> Option<&Certificates> {
        self.own.as_ref()?.certificates.as_ref()
    }

    /// The command line client, logged in as the administrator; add arguments and pipes. It reads
    /// statements from standard input and ends at its end.
    pub fn client(&self) -> Command {
        self.log_in(self.dist.client.command())
    }

    /// [`Server::client`], killed by the kernel when this process dies; start it with
    /// [`process::spawn`].
    pub fn bound_client(&self) -> Command {
        self.log_in(self.dist.client.bound_command())
    }

    fn log_in(&self, mut command: Command) -> Command {
        self.address_arguments(&mut command);
        command.args([
            "--batch",
            "--default-character-set=utf8mb4",
            "--connect-timeout=10",
        ]);
        if self.flavor().is_mariadb() {
            // From 11.4 on it wants to verify the server, and the automatic certificates of an
            // account without a password cannot be.
            command.arg("--skip-ssl-verify-server-cert");
        }
        command
    }

    fn address_arguments(&self, command: &mut Command) {
        let Address {
            host,
            port,
            user,
            password,
        } = &self.address;
        command.arg("--no-defaults").arg("--protocol=tcp");
        command
            .arg(format!("--host={host}"))
            .arg(format!("--port={port}"));
        command.arg(format!("--user={user}"));
        if !password.is_empty() {
            // Not as an argument, where every user of the machine reads it.
            command.env("MYSQL_PWD", password);
        }
    }

    /// Runs statements as the administrator, in order, up to the first error. Gives what they
    /// print: a line a row, tabs between the columns, no headings, `NULL` for null, and newline,
    /// tab and backslash escaped.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.script(statements, &format!("`{}`", shortened(statements)))
    }

    fn script(&self, statements: &str, what: &str) -> Result<String> {
        let mut command = self.client();
        command.arg("--skip-column-names");
        let what = format!("{what} on {}", self.flavor());
        let output = process::run_with_input(&mut command, statements.as_bytes(), &what)?;
        String::from_utf8(output).with_context(|| format!("the output of {what} is not UTF-8"))
    }

    /// Makes an account that may log in from everywhere, with `grants` like
    /// `REPLICATION SLAVE ON *.*`. One of that name that exists is replaced.
    pub fn create_user(&self, name: &str, password: &str, grants: &[&str]) -> Result<()> {
        let account = format!("{}@'%'", quoted(name));
        let mut script = format!(
            "DROP USER IF EXISTS {account};\nCREATE USER {account} IDENTIFIED BY {};\n",
            quoted(password)
        );
        for grant in grants {
            script.push_str(&format!("GRANT {grant} TO {account};\n"));
        }
        // Not the statements: an error must not show the password.
        self.script(&script, &format!("making the user {name}"))
            .map(drop)
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

    /// Wakes it from [`Server::sigstop`].
    pub fn sigcont(&self) -> Result<()> {
        self.own()?.child.signal(Signal::Continue)
    }

    /// The id of its process, while it runs and is ours.
    pub fn process_id(&self) -> Option<u32> {
        self.own.as_ref()?.child.process_id()
    }

    pub fn data_dir(&self) -> Result<&Path> {
        Ok(&self.own()?.data)
    }

    /// A folder for what belongs to the server, removed with it.
    pub fn scratch_dir(&self) -> Result<PathBuf> {
        let dir = self.own()?.berth.dir.join("scratch");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// What it has written about itself, for a failing test to print.
    pub fn error_log(&self) -> Result<String> {
        self.own()?.error_log()
    }

    /// Its binlog files that have not been purged, oldest first. Also when it does not run.
    pub fn binlog_files(&self) -> Result<Vec<PathBuf>> {
        let data = self.data_dir()?;
        let index = data.join("binlog.index");
        let text = fs::read_to_string(&index)
            .with_context(|| format!("cannot read {}", index.display()))?;
        Ok(text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| data.join(line))
            .collect())
    }

    /// Its whole binlog as its own tool tells it (`mysqlbinlog -v`, or `mariadb-binlog`): the truth
    /// that owes nothing to our decoder. Bytes that are not UTF-8 come as U+FFFD; where they
    /// matter, and for long ones, see [`Server::write_binlog_text`].
    pub fn binlog_text(&self) -> Result<String> {
        let output = process::run(&mut self.binlog_command()?, "reading the binlog")?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// [`Server::binlog_text`] into a file, byte for byte.
    pub fn write_binlog_text(&self, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut command = self.binlog_command()?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::piped());
        let output = process::spawn(command)?.wait_with_output()?;
        process::succeeded(output, "reading the binlog").map(drop)
    }

    fn binlog_command(&self) -> Result<Command> {
        let mut command = self.dist.binlog.command();
        let files: Vec<OsString> = if self.own.is_some() {
            command.arg("--no-defaults");
            self.binlog_files()?
                .into_iter()
                .map(PathBuf::into_os_string)
                .collect()
        } else {
            self.address_arguments(&mut command);
            command.arg("--read-from-remote-server");
            let listed = self.sql("SHOW BINARY LOGS")?;
            listed
                .lines()
                .filter_map(|line| line.split('\t').next())
                .map(OsString::from)
                .collect()
        };
        command
            .args(["--verbose", "--base64-output=DECODE-ROWS"])
            // The columns' names, which a reader that survives ALTER TABLE needs.
            .arg("--print-table-metadata")
            .args(files);
        Ok(command)
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().with_context(|| {
            format!(
                "the server given in {} is not ours to control; unset it to have one fetched",
                self.flavor().variable()
            )
        })
    }
}

fn shortened(statements: &str) -> String {
    const LIMIT: usize = 200;
    match statements.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}..", &statements[..end]),
        None => statements.to_owned(),
    }
}

/// A string literal under the default SQL mode.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
