//! What was measured, on the terminal and in `result.json`.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::figures::differs;
use super::{Figure, Judged, Measured, Outcome, Role, Run, machine};

/// The report of one bench.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    dir: PathBuf,
    versions: Value,
    settings: Value,
    load_before: Vec<f64>,
    cases: Vec<Value>,
    targets: Vec<Judged>,
}

impl Report {
    /// Begins now. `out` gets a folder with the bench's name.
    pub fn begin(
        bench: &'static str,
        out: &Path,
        versions: Value,
        settings: Value,
    ) -> Result<Self> {
        let dir = out.join(bench);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Report {
            bench,
            dir,
            versions,
            settings,
            load_before: machine::load(),
            cases: Vec::new(),
            targets: Vec::new(),
        })
    }

    /// Says on the terminal what is being done, if there is one.
    pub fn say(text: &str) {
        let mut err = std::io::stderr();
        if err.is_terminal() {
            // A line that cannot be shown is not worth an end.
            let _ = write!(err, "\r\x1b[K{text}");
            let _ = err.flush();
        }
    }

    /// Prints a case and keeps it.
    pub fn add(&mut self, outcome: Outcome) {
        Self::say("");
        print!("{}", table(&outcome));
        self.cases.push(raw(&outcome));
        self.targets.extend(outcome.targets);
    }

    /// Keeps what has another form.
    pub fn add_raw(&mut self, case: Value, targets: Vec<Judged>) {
        for target in &targets {
            println!("  {}", in_a_line(target));
        }
        self.cases.push(case);
        self.targets.extend(targets);
    }

    /// Writes everything down; where.
    pub fn end(self) -> Result<PathBuf> {
        let path = self.dir.join("result.json");
        let result = json!({
            "bench": self.bench,
            "command": std::env::args().collect::<Vec<_>>().join(" "),
            "versions": self.versions,
            "settings": self.settings,
            "machine": machine::describe(),
            "load_before": self.load_before,
            "load_after": machine::load(),
            "cases": self.cases,
            "targets": self.targets,
        });
        fs::write(&path, serde_json::to_vec_pretty(&result)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let load = |load: &[f64]| load.first().copied().unwrap_or_default();
        println!(
            "\nload {:.2} before, {:.2} after; raw figures in {}",
            load(&self.load_before),
            load(&machine::load()),
            path.display()
        );
        Ok(path)
    }
}

fn in_a_line(target: &Judged) -> String {
    let ratio = target
        .ratio
        .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let met = match target.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "unknown",
    };
    format!("target {met:<8}{ratio:>7}  {}", target.name)
}

fn table(outcome: &Outcome) -> String {
    let unit = outcome.unit;
    let mut text = format!("\n{}\n", outcome.name);
    text.push_str(&format!(
        "  {:<34}{:>12}{:>9}{:>9}{:>14}{:>12}{:>9}  beside ours\n",
        "",
        format!("CPU us/{unit}"),
        "user",
        "system",
        format!("{unit}s/CPU-s"),
        format!("{unit}s/s"),
        "MB peak",
    ));
    let ours = outcome
        .programs
        .iter()
        .find(|program| program.role == Role::Ours);
    let ours = ours.and_then(|program| program.cost(outcome.figure));
    for program in &outcome.programs {
        text.push_str(&line(program, outcome, ours));
    }
    if let Some(noise) = outcome.noise {
        text.push_str(&format!(
            "  noise bar: {:.0} % between the runs of the floor; figures are medians{}\n",
            noise * 100.0,
            match outcome.figure {
                Figure::Cpu => "",
                Figure::Wall => ", compared by the clock",
            }
        ));
    }
    for target in &outcome.targets {
        text.push_str(&format!("  {}\n", in_a_line(target)));
    }
    text
}

fn line(program: &Measured, outcome: &Outcome, ours: Option<f64>) -> String {
    if let Err(reason) = &program.runs {
        return format!("  {:<34}NOT RUN: {reason}\n", program.name);
    }
    let of = |figure: fn(&Run) -> f64| program.per_unit(figure).unwrap_or(f64::NAN);
    let memory = |run: &Run| run.memory_peak_bytes as f64 * run.units as f64 / 1e6;
    let ratio = program
        .cost(outcome.figure)
        .zip(ours)
        .map(|(cost, ours)| cost / ours);
    let beside = match (program.role, ratio) {
        (Role::Ours, _) | (_, None) => String::new(),
        (_, Some(ratio)) if !differs(ratio, outcome.noise.unwrap_or(0.0)) => {
            format!("no difference ({ratio:.2})")
        }
        (_, Some(ratio)) => format!("{ratio:.2}"),
    };
    format!(
        "  {:<34}{:>12.3}{:>9.3}{:>9.3}{:>14}{:>12}{:>9.0}  {beside}\n",
        program.name,
        of(Run::cpu_seconds) * 1e6,
        of(|run| run.user_seconds) * 1e6,
        of(|run| run.system_seconds) * 1e6,
        thousands(1.0 / of(Run::cpu_seconds)),
        thousands(1.0 / of(|run| run.wall_seconds)),
        of(memory),
    )
}

fn thousands(number: f64) -> String {
    if number >= 1e6 {
        format!("{:.2} M", number / 1e6)
    } else {
        format!("{:.0} k", number / 1e3)
    }
}

fn raw(outcome: &Outcome) -> Value {
    let ours = outcome
        .programs
        .iter()
        .find(|program| program.role == Role::Ours);
    let ours = ours.and_then(|program| program.cost(outcome.figure));
    let programs: Vec<Value> = outcome
        .programs
        .iter()
        .map(|program| {
            json!({
                "name": program.name,
                "role": format!("{:?}", program.role).to_lowercase(),
                "not_run": program.runs.as_ref().err(),
                "cpu_seconds_per_unit": program.per_unit(Run::cpu_seconds),
                "user_seconds_per_unit": program.per_unit(|run| run.user_seconds),
                "system_seconds_per_unit": program.per_unit(|run| run.system_seconds),
                "wall_seconds_per_unit": program.per_unit(|run| run.wall_seconds),
                "cost_beside_ours": program.cost(outcome.figure).zip(ours).map(|(cost, ours)| cost / ours),
                "runs": program.runs.as_ref().ok(),
            })
        })
        .collect();
    json!({
        "name": outcome.name,
        "unit": outcome.unit,
        "compared_by": match outcome.figure { Figure::Cpu => "cpu", Figure::Wall => "wall" },
        "noise_bar": outcome.noise,
        "facts": outcome.facts,
        "programs": programs,
    })
}
