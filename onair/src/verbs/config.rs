//! `config check`, `config show`, `config schema`.

use std::io::Write as _;

use crate::cli::{ConfigArgs, ConfigVerb};
use crate::config::report::{self, Line};
use crate::config::{self, Input, Loaded, Origin};
use crate::exit::Failure;
use crate::json;
use crate::output::{Output, Tone};
use crate::source;

pub(crate) fn run(args: ConfigArgs, out: &mut Output) -> Result<(), Failure> {
    match args.verb {
        ConfigVerb::Check { file } => {
            let loaded = load(file)?;
            let feeds: Vec<&str> = loaded.config.feeds.iter().map(|feed| &*feed.name).collect();
            let ok = out.tone(Tone::Good, "ok");
            out.line(&format!(
                "{ok}: {} {}",
                if feeds.len() == 1 { "feed" } else { "feeds" },
                feeds.join(", ")
            ))?;
        }
        ConfigVerb::Show { file, json } => show(&report::lines(&load(file)?), json, out)?,
        ConfigVerb::Schema => {
            serde_json::to_writer_pretty(&mut *out, &report::schema())
                .map_err(std::io::Error::from)?;
            out.line("")?;
        }
        ConfigVerb::Table => out.write_all(report::markdown().as_bytes())?,
    }
    Ok(out.flush()?)
}

fn load(file: Option<std::path::PathBuf>) -> Result<Loaded, Failure> {
    let input = Input {
        file: source::file(file.as_ref())?,
        environment: config::environment(),
        ..Input::default()
    };
    config::load(&input).map_err(|errors| source::misconfigured(&errors))
}

fn show(lines: &[Line], json: bool, out: &mut Output) -> Result<(), Failure> {
    if json {
        for line in lines {
            let form = serde_json::json!({"setting": line.name, "value": line.value, "origin": line.origin.to_string()});
            json::write_line(out, &form)?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let value = if line.value.is_empty() {
                "-".to_owned()
            } else {
                line.value.clone()
            };
            let origin = match &line.origin {
                Origin::Default => "default".to_owned(),
                origin => origin.to_string(),
            };
            vec![line.name.clone(), value, origin]
        })
        .collect();
    Ok(out.table(&["setting", "value", "from"], &rows)?)
}
