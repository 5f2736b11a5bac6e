//! `report.html`: one self-contained page for all results in a folder.
//!
//! In: the [`BenchResult`]s. Out: HTML with its style and pictures in it; it loads nothing and runs nothing. What is
//! compared is drawn beside what it is compared with, with the noise bar over it and the command under it.

mod bars;
mod curves;
mod scale;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::harness::{BenchResult, Better, Judged, Measured, Outcome, Role};

const STYLE: &str = include_str!("page.css");

/// Writes the page of all results in the folder; where.
pub fn write(dir: &Path) -> Result<PathBuf> {
    let results = BenchResult::all_of(dir)?;
    if results.is_empty() {
        bail!("there is no NAME/result.json in {}", dir.display());
    }
    let path = dir.join("report.html");
    fs::write(&path, page(&results)).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Writing to a string cannot fail.
macro_rules! put {
    ($to:expr, $($text:tt)*) => {{ let _ = write!($to, $($text)*); }};
}
use put;

fn page(results: &[BenchResult]) -> String {
    let mut html = String::new();
    put!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>OnAir, measured</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    header(&mut html, results);
    summary(&mut html, results);
    for result in results {
        bench(&mut html, result);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn header(html: &mut String, results: &[BenchResult]) {
    html.push_str("<header>\n<h1>OnAir, measured</h1>\n");
    html.push_str(
        "<p class=\"lead\">Each figure stands beside the floor, which cannot be avoided, and the peers, which do the \
         same work, in turns of one run on one machine. Only such ratios say something: the absolute figures are the \
         machine's. A difference smaller than the noise bar is none.</p>\n",
    );
    if results.iter().any(|result| result.smoke) {
        html.push_str(
            "<p class=\"warning\">Some of this was run with --smoke: it shows that the benches work. Its figures say \
             nothing, and no target is judged by them.</p>\n",
        );
    }
    let (Some(first), Some(last)) = (results.first(), results.iter().max_by_key(|r| r.at)) else {
        return;
    };
    let machine = &first.machine;
    put!(
        html,
        "<dl class=\"machine\"><dt>Machine</dt><dd>{} processors, {}, {}</dd><dt>Kernel</dt><dd>{}</dd>\
         <dt>Measured</dt><dd>{:.0}</dd></dl>\n</header>\n",
        machine.processors,
        escape(machine.processor.as_deref().unwrap_or("of an unknown kind")),
        escape(&gibibytes(machine.memory.as_deref().unwrap_or_default())),
        escape(&machine.kernel),
        last.at,
    );
}

/// `/proc/meminfo` says kibibytes.
fn gibibytes(text: &str) -> String {
    let kibibytes = text.trim_end_matches(" kB").parse::<f64>();
    kibibytes.map_or(text.to_owned(), |kib| {
        format!("{:.0} GiB of memory", kib / f64::from(1 << 20))
    })
}

/// All targets in a table.
fn summary(html: &mut String, results: &[BenchResult]) {
    let all = || results.iter().flat_map(|result| &result.targets);
    let count = |met| all().filter(|target| target.met == met).count();
    put!(
        html,
        "<section>\n<h2>Targets</h2>\n<p><span class=\"met\">{} met</span>, <span class=\"missed\">{} missed</span>, \
         <span class=\"unknown\">{} unknown</span></p>\n<table class=\"targets\">\n\
         <tr><th></th><th>Bench</th><th>Target</th><th class=\"n\">Ratio</th><th class=\"n\">Bound</th>\
         <th class=\"n\">Noise</th></tr>\n",
        count(Some(true)),
        count(Some(false)),
        count(None),
    );
    for result in results {
        for target in &result.targets {
            row(html, &result.bench, target);
        }
    }
    html.push_str("</table>\n</section>\n");
}

fn row(html: &mut String, bench: &str, target: &Judged) {
    let (class, sign, word) = match target.met {
        Some(true) => ("met", "✓", "met"),
        Some(false) => ("missed", "✗", "missed"),
        None => ("unknown", "?", "unknown"),
    };
    let number = |number: Option<f64>| number.map_or("–".to_owned(), scale::short);
    let bound = match target.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    let noise = target.noise.map(|noise| format!("{:.0} %", noise * 100.0));
    put!(
        html,
        "<tr><td class=\"{class}\" title=\"{word}\">{sign}</td><td><a href=\"#{}\">{}</a></td><td>{}</td>\
         <td class=\"n {class}\">{}</td><td class=\"n\">{bound} {}</td><td class=\"n\">{}</td></tr>\n",
        escape(bench),
        escape(bench),
        escape(&target.name),
        number(target.ratio),
        scale::short(target.target),
        noise.unwrap_or("–".to_owned()),
    );
}

fn bench(html: &mut String, result: &BenchResult) {
    put!(
        html,
        "<section id=\"{0}\">\n<h2>{0}</h2>\n<p class=\"run\"><code>onair {1}</code></p>\n\
         <p class=\"note\">{2:.0}, {3:.0} s; load {4} before, {5} after{6}</p>\n",
        escape(&result.bench),
        escape(&result.command),
        result.at,
        result.took_seconds,
        load(&result.load_before),
        load(&result.load_after),
        if result.pinned {
            "; the process under test had a processor of its own"
        } else {
            ""
        },
    );
    for outcome in &result.cases {
        case(html, outcome);
    }
    put!(
        html,
        "<details><summary>Versions and settings</summary><pre>{}\n{}</pre></details>\n</section>\n",
        escape(&format!("{:#}", result.versions)),
        escape(&format!("{:#}", result.settings)),
    );
}

fn load(averages: &[f64]) -> String {
    averages
        .first()
        .map_or("unknown".to_owned(), |load| format!("{load:.2}"))
}

fn case(html: &mut String, outcome: &Outcome) {
    put!(
        html,
        "<figure>\n<figcaption><b>{}</b> {} for each {}</figcaption>\n",
        escape(&outcome.name),
        escape(&outcome.compared),
        escape(&outcome.unit),
    );
    bars::draw(html, outcome);
    curves::draw(html, outcome);
    let noise = outcome.noise.map(|noise| {
        format!(
            "noise bar {:.0} %: the distance between the cheapest and the dearest run of the floor",
            noise * 100.0
        )
    });
    let runs = outcome.programs.iter().map(|program| program.runs.len());
    put!(
        html,
        "<p class=\"note\">medians of {} runs{}</p>\n",
        runs.max().unwrap_or(0),
        noise.map_or(String::new(), |noise| format!("; {noise}")),
    );
    for program in &outcome.programs {
        if let Some(reason) = &program.not_run {
            put!(
                html,
                "<p class=\"note\"><b>{}</b> NOT RUN: {}</p>\n",
                escape(&program.name),
                escape(reason)
            );
        }
    }
    html.push_str("</figure>\n");
}

/// The same colour, and the same mark, wherever it stands.
fn class(program: &Measured) -> &'static str {
    match program.role {
        Role::Floor => "floor",
        Role::Peer => "peer",
        Role::Ours => "ours",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_result_is_taken_for_markup() {
        assert_eq!(
            escape("<b a=\"1\"> & co"),
            "&lt;b a=&quot;1&quot;&gt; &amp; co"
        );
    }
}
