//! A server process of our own: its folder and port, its start, its end.

use std::fs;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::certificates::Certificates;
use super::child::Held;
use super::fetch::{Dist, template};
use super::place::{Berth, copy_dir};
use super::process;
use super::server::{Options, Tls};
use super::{flag, mariadb, mysql};

#[derive(Debug)]
pub(super) struct Own {
    dist: Dist,
    pub(super) berth: Berth,
    pub(super) data: PathBuf,
    /// Folder for temporary files: private, or servers destroy each other's.
    temporary: PathBuf,
    pub(super) certificates: Option<Certificates>,
    options: Options,
    pub(super) child: Held,
}

/// How often a port may be taken by someone else between our look and the server's start.
const PORT_ATTEMPTS: usize = 5;

impl Own {
    /// A server that answers, on the port of the options or a free one.
    pub(super) fn start_on_free_port(dist: &Dist, options: &Options) -> Result<Self> {
        let mut attempts = 1;
        loop {
            let own = Self::prepare(dist, options)?;
            match own.start() {
                Ok(()) => return Ok(own),
                Err(error) => {
                    let is_taken = format!("{error:#}").contains("Address already in use");
                    if !is_taken || options.port.is_some() || attempts == PORT_ATTEMPTS {
                        return Err(error);
                    }
                    attempts += 1;
                }
            }
        }
    }

    /// All that is there before the process is.
    fn prepare(dist: &Dist, options: &Options) -> Result<Self> {
        let berth = match options.port {
            Some(port) => Berth::take_port(port)?,
            None => Berth::take()?,
        };
        let data = match &options.data_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => berth.dir.join("data"),
        };
        let is_new = !fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some());
        if is_new && dist.flavor.is_mariadb() {
            let template = template(dist, mariadb::initialise)?;
            copy_dir(&template, &data, &mariadb::is_copied)?;
        } else if is_new {
            let template = template(dist, mysql::initialise)?;
            copy_dir(&template, &data, &mysql::is_copied)?;
        }
        let certificates = match options.tls {
            Tls::Certified => Some(Certificates::make(&berth.dir.join("tls"))?),
            Tls::Automatic | Tls::Off => None,
        };
        let temporary = berth.dir.join("tmp");
        fs::create_dir_all(&temporary)
            .with_context(|| format!("cannot make {}", temporary.display()))?;
        Ok(Self {
            dist: dist.clone(),
            berth,
            data,
            temporary,
            certificates,
            options: options.clone(),
            child: Held::none(dist.flavor.name()),
        })
    }

    /// Starts the process and waits for its first handshake.
    pub(super) fn start(&self) -> Result<()> {
        self.child.start(
            || self.spawn(),
            || greets(self.berth.port),
            || self.error_log(),
        )
    }

    fn spawn(&self) -> Result<Child> {
        let of_flavor = if self.dist.flavor.is_mariadb() {
            mariadb::arguments
        } else {
            mysql::arguments
        };
        let port = self.berth.port;
        let certificates = self.certificates.as_ref();
        let mut command = self.dist.server.bound_command();
        command
            .args(of_flavor(
                &self.dist,
                &self.data,
                &self.temporary,
                &self.options.tls,
                certificates,
            ))
            .args(["--bind-address=127.0.0.1".into(), format!("--port={port}")])
            // Unique among the servers that run, which is all that it must be.
            .arg(format!("--server-id={port}"))
            // Relative to the data directory: a socket's path may have 107 bytes and no more.
            .args(["--socket=mysqld.sock", "--pid-file=mysqld.pid"])
            .arg(flag("--log-error=", self.data.join(ERROR_LOG)))
            .args(&self.options.extra_args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        process::spawn(command)
    }

    pub(super) fn error_log(&self) -> Result<String> {
        let path = self.data.join(ERROR_LOG);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

const ERROR_LOG: &str = "error.log";

impl Drop for Own {
    fn drop(&mut self) {
        // A test that failed has more to say than what goes wrong here.
        let _ = self.child.kill();
        self.berth.clear();
    }
}

/// Whether a server sends its first packet, which both sorts begin with protocol version 10. The
/// port is open a moment before that.
fn greets(port: u16) -> bool {
    let patience = Duration::from_secs(1);
    let greeting = || -> io::Result<[u8; 5]> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut packet = [0; 5];
        stream.read_exact(&mut packet)?;
        Ok(packet)
    };
    greeting().is_ok_and(|packet| packet[4] == 10)
}
