//! `doctor`: everything that OnAir needs of a database, a line each.

use std::io::Write as _;

use onair_cdc::source::Level;

use crate::cli::DoctorArgs;
use crate::exit::{Exit, Failure};
use crate::json::{self, FindingForm};
use crate::output::{Output, Tone};
use crate::source;

pub(crate) async fn run(args: DoctorArgs, out: &mut Output) -> Result<(), Failure> {
    let loaded = source::configure(args.source, Vec::new())?;
    let opened = source::open(&loaded.config)?;
    let findings = opened
        .source
        .preflight(&loaded.config.feeds)
        .await
        .map_err(|error| source::failed(&opened.name, &error))?;
    if args.json {
        let forms: Vec<FindingForm<'_>> = findings
            .iter()
            .map(|finding| FindingForm {
                check: finding.check,
                level: source::level(finding.level),
                seen: &finding.seen,
                why: finding.why,
                fix: &finding.fix,
            })
            .collect();
        json::write_line(out, &forms)?;
    } else {
        let title = out.tone(Tone::Strong, &opened.name);
        out.line(&title)?;
        for finding in &findings {
            let (tone, word) = match finding.level {
                Level::Ok => (Tone::Good, "ok  "),
                Level::Warn => (Tone::Notice, "warn"),
                Level::Fail => (Tone::Bad, "fail"),
            };
            let word = out.tone(tone, word);
            out.line(&format!("{word}  {}: {}", finding.check, finding.seen))?;
            if finding.level != Level::Ok {
                out.line(&format!("      why: {}", finding.why))?;
            }
            if !finding.fix.is_empty() {
                out.line(&format!("      fix: {}", finding.fix))?;
            }
        }
    }
    out.flush()?;
    match findings
        .iter()
        .filter(|finding| finding.level == Level::Fail)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::new(
            Exit::Failed,
            "one check failed; its line above says what mends it",
        )),
        many => Err(Failure::new(
            Exit::Failed,
            format!("{many} checks failed; their lines above say what mends them"),
        )),
    }
}
