//! A comparison as people read it on a terminal.

use std::fmt::Write as _;

use super::figures::{differs, short};
use super::latencies::QUANTILES;
use super::{Judged, Latencies, Measure, Measured, Outcome, Role, Run};

pub(super) fn table(outcome: &Outcome) -> String {
    let unit = &outcome.unit;
    let mut text = format!("\n{}\n", outcome.name);
    text.push_str(&format!(
        "  {:<34}{:>18}{:>9}{:>9}{:>20}{:>16}{:>12}{:>14}  beside ours\n",
        "",
        format!("CPU us/{unit}"),
        "user",
        "system",
        format!("{unit}s/CPU-s"),
        format!("{unit}s/s"),
        "allocated",
        "memory",
    ));
    for program in &outcome.programs {
        line(&mut text, program, outcome);
    }
    waited(&mut text, outcome);
    if let Some(noise) = outcome.noise {
        text.push_str(&format!(
            "  noise bar: {:.0} % between the runs of the floor; figures are medians, compared by {}\n",
            noise * 100.0,
            outcome.compared,
        ));
    }
    text
}

fn line(text: &mut String, program: &Measured, outcome: &Outcome) {
    if let Some(reason) = &program.not_run {
        text.push_str(&format!("  {:<34}NOT RUN: {reason}\n", program.name));
        return;
    }
    let of = |figure: fn(&Run) -> f64| program.per_unit(|run| Some(figure(run)));
    let of = |figure| of(figure).unwrap_or(f64::NAN);
    // What each unit holds, where that was measured; else what the process held.
    let held = program.per_unit(|run| run.memory_bytes.map(|bytes| bytes as f64));
    let memory = match (outcome.measure, held) {
        (Measure::Bytes, Some(held)) => format!("{} each", bytes(held)),
        _ => bytes(of(|run| run.memory_peak_bytes as f64 * run.units as f64)),
    };
    let allocated = program.per_unit(|run| run.allocated_bytes.map(|bytes| bytes as f64));
    let beside = match (program.role, program.over_ours) {
        (Role::Ours, _) | (_, None) => String::new(),
        (_, Some(ratio)) if !differs(ratio, outcome.noise.unwrap_or(0.0)) => {
            format!("no difference ({ratio:.2})")
        }
        (_, Some(ratio)) => format!("{ratio:.2}"),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  {:<34}{:>18.3}{:>9.3}{:>9.3}{:>20}{:>16}{:>12}{:>14}  {beside}",
        program.name,
        of(Run::cpu_seconds) * 1e6,
        of(|run| run.user_seconds) * 1e6,
        of(|run| run.system_seconds) * 1e6,
        thousands(1.0 / of(Run::cpu_seconds)),
        thousands(1.0 / of(|run| run.wall_seconds)),
        allocated.map_or("-".to_owned(), bytes),
        memory,
    );
}

/// Quantiles of what was waited for.
fn waited(text: &mut String, outcome: &Outcome) {
    let rows: Vec<(String, Latencies)> = outcome
        .programs
        .iter()
        .flat_map(|program| {
            let kinds = program.runs.first().map(|run| run.latencies.keys());
            kinds.into_iter().flatten().filter_map(|of| {
                let latencies = program.latencies(of)?;
                Some((format!("{}: {of}", program.name), latencies))
            })
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    let names = QUANTILES.map(|(name, _)| format!("{name:>12}")).concat();
    text.push_str(&format!(
        "  {:<46}{names}{:>12}{:>9}\n",
        "", "max", "samples"
    ));
    for (name, latencies) in rows {
        let cells = QUANTILES.map(|(_, at)| match latencies.quoted(at) {
            Some(seconds) => time(seconds),
            None => format!("{:>12}", "-"),
        });
        text.push_str(&format!(
            "  {name:<46}{}{}{:>9}\n",
            cells.concat(),
            time(latencies.max()),
            latencies.count(),
        ));
    }
}

fn time(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:>9.2} us", seconds * 1e6)
    } else {
        format!("{:>9.2} ms", seconds * 1e3)
    }
}

pub(super) fn in_a_line(target: &Judged) -> String {
    let ratio = target.ratio.map_or("-".to_owned(), short);
    let met = match target.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "unknown",
    };
    format!("target {met:<8}{ratio:>8}  {}", target.name)
}

fn thousands(number: f64) -> String {
    if !number.is_finite() {
        "-".to_owned()
    } else if number >= 1e6 {
        format!("{:.2} M", number / 1e6)
    } else if number >= 1e4 {
        format!("{:.0} k", number / 1e3)
    } else {
        format!("{number:.0}")
    }
}

fn bytes(number: f64) -> String {
    if number >= 1e6 {
        format!("{:.1} MB", number / 1e6)
    } else if number >= 1e4 {
        format!("{:.1} kB", number / 1e3)
    } else {
        format!("{number:.0} B")
    }
}
