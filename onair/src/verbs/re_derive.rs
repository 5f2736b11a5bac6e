//! `re-derive`: takes the checkpoint away, so that the reader opens the next epoch with a full scan.

use std::io::Write as _;
use std::path::PathBuf;

use onair_store::checkpoint;

use crate::cli::{ReDeriveArgs, SourceArgs};
use crate::config::DATA_DIR;
use crate::exit::{Exit, Failure, chain};
use crate::json::{self, ReDeriveForm};
use crate::output::Output;
use crate::{backends, source};

pub(crate) async fn run(args: ReDeriveArgs, out: &mut Output) -> Result<(), Failure> {
    let flags = args.data_dir.map(|dir| ("data_dir", "--data-dir", dir));
    let loaded = source::configure(
        SourceArgs::of_file(args.config),
        flags.into_iter().collect(),
    )?;
    let config = &loaded.config;
    let data_dir = config.data_dir.clone();
    let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR));
    let store = backends::store(config, &data_dir)
        .await
        .map_err(super::up::unusable)?;
    let forgotten = checkpoint::forget(&*store, &source::SOURCE.into())
        .await
        .map_err(|error| Failure::new(Exit::Failed, chain(&error)))?;
    let version = forgotten.map(|checkpoint| checkpoint.version);
    if args.json {
        return Ok(json::line(
            out,
            &ReDeriveForm {
                checkpoint: version,
            },
        )?);
    }
    out.line(&match version {
        Some(version) => format!(
            "the checkpoint at {version} is gone: the reader opens the next epoch with a full scan"
        ),
        None => "there is no checkpoint: the reader opens the next epoch anyway".to_owned(),
    })?;
    Ok(out.flush()?)
}
