//! One server and its subscribers, each a process of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bare::Bare;
use super::http2::Limits;
use super::onair::OnAir;
use super::subscribers::{Ask, Came, Subscribers, Wire};
use super::{Part, Publish, Published, descriptors};
use crate::harness::child::{Job, Placed, Served};
use crate::harness::{Measuring, Role, Watch};

/// What every HTTP/2 client may be sent when it says nothing, and about what tonic's client allows.
const DEFAULTS: Limits = Limits {
    frame_bytes: 16 << 10,
    window_bytes: 2 << 20,
};
/// What our SDK allows.
const WIDE: Limits = Limits {
    frame_bytes: 256 << 10,
    window_bytes: 4 << 20,
};

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Write,
    Tonic,
    TonicWide,
    GoSend,
    GoPrepared,
    OnAir,
}

impl Program {
    pub(super) const ALL: [Program; 6] = [
        Program::Write,
        Program::Tonic,
        Program::TonicWide,
        Program::GoSend,
        Program::GoPrepared,
        Program::OnAir,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Program::Write => "write()",
            Program::Tonic => "tonic + prost",
            Program::TonicWide => "tonic + prost, 256 KiB frames",
            Program::GoSend => "grpc-go, Send",
            Program::GoPrepared => "grpc-go, PreparedMsg",
            Program::OnAir => "onair-server",
        }
    }

    pub(super) fn role(self) -> Role {
        match self {
            Program::Write => Role::Floor,
            Program::OnAir => Role::Ours,
            _ => Role::Peer,
        }
    }

    fn wire(self) -> Wire {
        match self {
            Program::Write => Wire::Bare,
            Program::OnAir => Wire::OnAir(WIDE),
            Program::TonicWide => Wire::Fanout(WIDE),
            _ => Wire::Fanout(DEFAULTS),
        }
    }

    /// What starts it, or why that cannot be.
    fn command(self, scene: &Scene) -> Result<Command, String> {
        let ours = |part: Part| Job::Fanout(part).command().map_err(|e| format!("{e:#}"));
        match self {
            Program::Write => ours(Part::Bare(Bare {
                subscribers: scene.subscribers,
                update_bytes: scene.update_bytes,
                snapshot_bytes: scene.snapshot_bytes,
            })),
            Program::OnAir => ours(Part::OnAir(OnAir {
                subscribers: scene.subscribers,
                rows: scene.snapshot_rows,
            })),
            Program::Tonic | Program::TonicWide if cfg!(feature = "peers") => {
                ours(Part::Tonic(scene.subscribers))
            }
            Program::Tonic | Program::TonicWide => {
                Err("not in this build: build with --features peers".to_owned())
            }
            Program::GoSend => go("send"),
            Program::GoPrepared => go("prepared"),
        }
    }

    /// Why it cannot be run, if so.
    pub(super) fn missing(self, scene: &Scene) -> Option<String> {
        self.command(scene).err()
    }
}

/// As many threads as the machine has processors: its default.
fn go(mode: &str) -> Result<Command, String> {
    let mut command = onair_xtask::peers::Peer::Go.command()?;
    command.arg(json!({ "fanout": { "mode": mode, "workers": 0 } }).to_string());
    Ok(command)
}

/// What a bench has every program do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) placed: Placed,
    pub(super) subscribers: usize,
    /// So many of them stop reading.
    pub(super) stopped: usize,
    pub(super) snapshot_rows: u32,
    pub(super) update_rows: u32,
    /// What ours makes of those rows, for the floor.
    pub(super) snapshot_bytes: usize,
    pub(super) update_bytes: usize,
}

impl Scene {
    /// Sizes as ours has them: it is asked once.
    pub(super) fn new(
        measuring: &Measuring,
        snapshot_rows: u32,
        update_rows: u32,
    ) -> Result<(Self, Value)> {
        let mut scene = Scene {
            placed: measuring.placed(),
            subscribers: 1,
            stopped: 0,
            snapshot_rows,
            update_rows,
            snapshot_bytes: 0,
            update_bytes: 0,
        };
        let (snapshot_bytes, update_bytes) = scene.bytes_of(Program::OnAir)?;
        scene.snapshot_bytes = snapshot_bytes;
        scene.update_bytes = update_bytes;
        let mut facts = serde_json::Map::new();
        for program in Program::ALL {
            if program.missing(&scene).is_none() {
                let (snapshot, update) = scene.bytes_of(program)?;
                let bytes =
                    json!({ "bytes of a snapshot": snapshot, "bytes of an update": update });
                facts.insert(program.name().to_owned(), bytes);
            }
        }
        Ok((scene, facts.into()))
    }

    pub(super) fn with(self, subscribers: usize) -> Self {
        Scene {
            subscribers,
            ..self
        }
    }

    /// What a subscriber receives with a snapshot, and with an update.
    fn bytes_of(&self, program: Program) -> Result<(usize, usize)> {
        let mut stage = Stage::start(program, &self.with(1))?;
        stage.connect()?;
        let snapshot = stage.subscribe(Duration::ZERO)?;
        let updates = 4;
        let update = stage.publish(updates, 20.0)?;
        stage.end()?;
        Ok((
            usize::try_from(snapshot.bytes)?,
            usize::try_from(update.bytes / updates)?,
        ))
    }
}

#[derive(Deserialize)]
struct Port {
    port: u16,
}

/// Both processes.
#[derive(Debug)]
pub(super) struct Stage {
    program: Program,
    scene: Scene,
    server: Served,
    subscribers: Served,
    /// Updates so far.
    published: u64,
    encodings: Option<u64>,
}

impl Stage {
    pub(super) fn start(program: Program, scene: &Scene) -> Result<Self> {
        descriptors::allow(scene.subscribers)?;
        let command = program.command(scene).map_err(anyhow::Error::msg)?;
        let mut server = Served::start(&command, scene.placed)?;
        let Port { port } = server.ready()?;
        let part = Part::Subscribers(Subscribers {
            port,
            count: scene.subscribers,
            stopped: scene.stopped,
            wire: program.wire(),
            snapshot_rows: scene.snapshot_rows,
        });
        // Where everything else runs, not where the server does.
        let mut subscribers = Served::start(&Job::Fanout(part).command()?, Placed::Anywhere)?;
        subscribers.ready::<Value>()?;
        Ok(Stage {
            program,
            scene: *scene,
            server,
            subscribers,
            published: 0,
            encodings: None,
        })
    }

    /// Begins to measure the server.
    pub(super) fn watch(&self) -> Result<Watch> {
        self.server.watch()
    }

    pub(super) fn connect(&mut self) -> Result<()> {
        self.subscribers
            .ask::<Value>(&serde_json::to_value(Ask::Connect)?)?;
        Ok(())
    }

    /// All ask for the snapshot within this time, and have it.
    pub(super) fn subscribe(&mut self, within: Duration) -> Result<Came> {
        let within_ms = u64::try_from(within.as_millis())?;
        let came: Came = self
            .subscribers
            .ask(&serde_json::to_value(Ask::Subscribe { within_ms })?)
            .with_context(|| format!("subscribing to {}", self.program.name()))?;
        Ok(came)
    }

    /// Publishes so many updates; what came when all that read have them all. Ours may make one of several, where the
    /// others must bring each to each.
    pub(super) fn publish(&mut self, count: u64, hz: f64) -> Result<Came> {
        let name = self.program.name();
        let rows = self.scene.update_rows;
        let published: Published = Publish { count, hz, rows }.ask(&mut self.server)?;
        self.published += count;
        self.encodings = published.encodings;
        let (there, all) = (published.subscribers, self.scene.subscribers);
        ensure!(
            there == all,
            "{there} of {all} subscribers of {name} are there"
        );
        // Where a version is more than a count, the server says which is the last.
        let version = published.version.unwrap_or(self.published);
        let came: Came = self
            .subscribers
            .ask(&serde_json::to_value(Ask::Receive { version })?)
            .with_context(|| format!("receiving from {name}"))?;
        let expected = count * (all - self.scene.stopped) as u64;
        ensure!(
            came.deliveries == expected || self.program == Program::OnAir,
            "{name} delivered {} updates where there are {expected}",
            came.deliveries
        );
        Ok(came)
    }

    /// How often the server had encoded a frame when it had published last, where it counts that.
    pub(super) fn encodings(&self) -> Option<u64> {
        self.encodings
    }

    pub(super) fn end(self) -> Result<()> {
        self.subscribers.end()?;
        // What it costs a server that all go at once is not measured, and some end by being ended.
        drop(self.server);
        Ok(())
    }
}
