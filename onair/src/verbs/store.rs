//! `store init`: the keyspace and tables that mergers, readers and servers of their own need.

use std::io::Write as _;

use crate::cli::{SourceArgs, StoreArgs, StoreVerb};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::{backends, source};

pub(crate) async fn run(args: StoreArgs, out: &mut Output) -> Result<(), Failure> {
    let StoreVerb::Init { config } = args.verb;
    let loaded = source::configure(SourceArgs::of_file(config), Vec::new())?;
    let scylla = &loaded.config.scylla;
    if scylla.nodes.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "store init: the configuration has no [store.scylla]; the embedded store needs no preparation",
        ));
    }
    backends::init(&loaded.config)
        .await
        .map_err(super::up::unusable)?;
    let word = out.tone(Tone::Good, "ready");
    out.line(&format!(
        "{word}  keyspace {} at {}",
        scylla.keyspace,
        scylla.nodes.join(", ")
    ))?;
    Ok(out.flush()?)
}
