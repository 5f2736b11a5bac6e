//! `config check`, `config show`, `config schema`.

use std::io::Write as _;
use std::path::PathBuf;

use crate::cli::{ConfigArgs, ConfigVerb};
use crate::config::report::{self, Line};
use crate::config::{self, ConfigError, ConfigErrors, Input, Loaded, Origin};
use crate::exit::Failure;
use crate::json;
use crate::output::{Output, Tone};
use crate::source;

pub(crate) fn run(args: ConfigArgs, out: &mut Output) -> Result<(), Failure> {
    match args.verb {
        ConfigVerb::Check { file, json } => {
            let checked = read(file)?.and_then(|loaded| loaded.check_files().map(|()| loaded));
            if json {
                return check_form(&checked, out);
            }
            let loaded = checked.map_err(|errors| source::misconfigured(&errors))?;
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

fn load(file: Option<PathBuf>) -> Result<Loaded, Failure> {
    read(file)?.map_err(|errors| source::misconfigured(&errors))
}

fn read(file: Option<PathBuf>) -> Result<Result<Loaded, ConfigErrors>, Failure> {
    let input = Input {
        file: source::file(file.as_ref())?,
        environment: config::environment(),
        ..Input::default()
    };
    Ok(config::load(&input))
}

/// One line, also where something is wrong; the exit code says so again.
fn check_form(checked: &Result<Loaded, ConfigErrors>, out: &mut Output) -> Result<(), Failure> {
    let (form, failure) = match checked {
        Ok(loaded) => {
            let feeds: Vec<&str> = loaded.config.feeds.iter().map(|feed| &*feed.name).collect();
            (serde_json::json!({"ok": true, "feeds": feeds}), None)
        }
        Err(errors) => {
            let error = |error: &ConfigError| serde_json::json!({"where": error.origin.to_string(), "text": error.text});
            let list: Vec<_> = errors.0.iter().map(error).collect();
            let form = serde_json::json!({"ok": false, "errors": list});
            (form, Some(source::misconfigured(errors)))
        }
    };
    json::line(out, &form)?;
    failure.map_or(Ok(()), Err)
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
