//! `cargo xtask faults`: docs/faults.md, made of docs/faults.toml and of the tests that there are.
//!
//! In: the catalogue and the sources. Out: the page. Wrong: a test that is named and is not there, or is ignored; an id
//! that stands twice; with `--check` a page that is not what would be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use onair_xtask::cargo::repository;

const CATALOGUE: &str = "docs/faults.toml";
const PAGE: &str = "docs/faults.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when the page is stale.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    part: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    title: String,
    fault: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    id: String,
    what: String,
    must: String,
    /// `FILE::NAME`.
    tests: Vec<String>,
    /// What the tests leave open.
    #[serde(default)]
    but: String,
    /// Why it cannot be run here.
    #[serde(default)]
    not_run: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        return check();
    }
    let path = repository().join(PAGE);
    std::fs::write(&path, made()?).with_context(|| path.display().to_string())
}

/// Fails when a named test is gone or the page is stale.
pub(crate) fn check() -> Result<()> {
    let page = made()?;
    let there = std::fs::read_to_string(repository().join(PAGE)).unwrap_or_default();
    if page != there {
        bail!("{PAGE} is stale: run `cargo xtask faults`");
    }
    Ok(())
}

fn made() -> Result<String> {
    let text = read(CATALOGUE)?;
    let catalogue: Catalogue = toml::from_str(&text).context(CATALOGUE)?;
    let faults = wrong(&catalogue, read);
    if !faults.is_empty() {
        bail!("{CATALOGUE}:\n  {}", faults.join("\n  "));
    }
    Ok(page(&catalogue))
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(repository().join(path)).with_context(|| path.to_owned())
}

/// What is wrong with the catalogue, a line each.
fn wrong(catalogue: &Catalogue, read: impl Fn(&str) -> Result<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    let mut tests: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for fault in catalogue.part.iter().flat_map(|part| &part.fault) {
        let id = &fault.id;
        if !ids.insert(id) {
            wrong.push(format!("{id} stands twice"));
        }
        if !fault.not_run.is_empty() && !fault.tests.is_empty() {
            wrong.push(format!(
                "{id} is not run and has tests: say in `but` what they leave open"
            ));
        }
        for test in &fault.tests {
            let Some((file, name)) = test.split_once("::") else {
                wrong.push(format!("{id}: {test} is not FILE::NAME"));
                continue;
            };
            if !tests.contains_key(file) {
                match read(file) {
                    Ok(source) => drop(tests.insert(file, tests_of(&source))),
                    Err(error) => {
                        wrong.push(format!("{id}: {error:#}"));
                        continue;
                    }
                }
            }
            if !tests[file].contains(name) {
                wrong.push(format!("{id}: there is no test {name} in {file}"));
            }
        }
    }
    wrong
}

/// The names of a file's tests: functions with a test attribute, unless they are ignored, and those that a macro makes
/// a test of on each server.
fn tests_of(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    let mut in_macro = false;
    for line in source.lines() {
        let line = line.trim();
        if in_macro || line.contains("on_each_server!(") {
            let list = line.rsplit("on_each_server!(").next().unwrap_or(line);
            in_macro = !list.contains(')');
            let list = list.split(')').next().unwrap_or(list);
            let list = list.split(',').map(str::trim);
            names.extend(list.filter(|name| !name.is_empty()).map(str::to_owned));
            continue;
        }
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_test = false;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            names.insert(rest[..end.unwrap_or(rest.len())].to_owned());
            is_test = false;
        }
    }
    names
}

fn page(catalogue: &Catalogue) -> String {
    let mut page = format!(
        "# Faults\n\n\
         What OnAir must stand, and the tests that show it. Made of {CATALOGUE} by `cargo xtask faults`, which fails \
         when a test named here is gone.\n\n\
         S: goes on, nothing lost or invented. R: a new epoch, the content is right again by itself. E: refused, or \
         ended with an error that says what to do. D: goes on serving what it has, its age growing.\n\n"
    );
    for part in &catalogue.part {
        let covered = part
            .fault
            .iter()
            .filter(|fault| !fault.tests.is_empty())
            .count();
        let _ = write!(
            page,
            "## {}\n\n{covered} of {} have a test.\n\n| | fault | must | tests |\n|---|---|---|---|\n",
            part.title,
            part.fault.len()
        );
        for fault in &part.fault {
            let mut tests: Vec<String> =
                fault.tests.iter().map(|test| format!("`{test}`")).collect();
            if !fault.not_run.is_empty() {
                tests.push(format!("NOT RUN: {}", fault.not_run));
            } else if tests.is_empty() {
                tests.push("NOT YET".to_owned());
            }
            if !fault.but.is_empty() {
                tests.push(format!("but: {}", fault.but));
            }
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} |",
                fault.id,
                fault.what,
                fault.must,
                tests.join("<br>")
            );
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
        on_each_server!(one, two);
        on_each_server!(
            three,
        );
        #[test]
        fn four() {}
        #[tokio::test(start_paused = true)]
        async fn five() {}
        #[test]
        #[ignore = \"slow\"]
        fn six() {}
        fn seven() {}
    ";

    #[test]
    fn tests_are_found_in_the_source() {
        let names: Vec<String> = tests_of(SOURCE).into_iter().collect();
        assert_eq!(names, ["five", "four", "one", "three", "two"]);
    }

    #[test]
    fn a_test_that_is_gone_and_an_id_twice_are_told() {
        let text = "[[part]]\ntitle = 't'\n\
            [[part.fault]]\nid = 'A'\nwhat = 'w'\nmust = 'S'\ntests = ['f.rs::four', 'f.rs::six', 'g.rs::x', 'h']\n\
            [[part.fault]]\nid = 'A'\nwhat = 'w'\nmust = 'S'\ntests = []\n\
            [[part.fault]]\nid = 'B'\nwhat = 'w'\nmust = 'S'\ntests = []\nnot_run = 'r'\n\
            [[part.fault]]\nid = 'C'\nwhat = 'w'\nmust = 'S'\ntests = ['f.rs::four']\nnot_run = 'r'\n";
        let catalogue: Catalogue = toml::from_str(text).expect("a catalogue");
        let read = |path: &str| match path {
            "f.rs" => Ok(SOURCE.to_owned()),
            _ => bail!("{path}: not there"),
        };
        assert_eq!(
            wrong(&catalogue, read),
            [
                "A: there is no test six in f.rs",
                "A: g.rs: not there",
                "A: h is not FILE::NAME",
                "A stands twice",
                "C is not run and has tests: say in `but` what they leave open",
            ]
        );
        assert!(page(&catalogue).contains("2 of 4 have a test"));
        assert!(page(&catalogue).contains("| B | w | S | NOT RUN: r |"));
        assert!(page(&catalogue).contains("| A | w | S | NOT YET |"));
    }
}
