//! `onair bench compare A B`: what became better or worse between two folders of results.
//!
//! Only ratios are compared, each beside what it was a ratio of, and by how much it may move by itself: the larger one
//! of the two noise bars.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::harness::{BenchResult, Better, Judged};

/// Which folders.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 3 when a ratio got worse by more than the noise.\n\nExample:\n  onair bench compare results-before results-after"
)]
pub struct CompareArgs {
    /// Measured before
    before: PathBuf,
    /// Measured after
    after: PathBuf,
}

/// How a ratio moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Better,
    Worse,
    /// By less than the noise.
    NotSeen,
    /// One of them was not measured.
    Unknown,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Moved::Better => "better",
            Moved::Worse => "WORSE",
            Moved::NotSeen => "no difference",
            Moved::Unknown => "unknown",
        })
    }
}

/// Prints each target of both; whether none got worse.
pub fn run(args: &CompareArgs) -> Result<bool> {
    let before = targets(&args.before)?;
    let after = targets(&args.after)?;
    let mut worse = 0;
    let mut both = 0;
    println!(
        "{:>10}{:>10}{:>8}  {:<14} target",
        "before", "after", "noise", ""
    );
    for was in &before {
        let Some(is) = after.iter().find(|is| is.name == was.name) else {
            continue;
        };
        both += 1;
        let moved = moved(was, is);
        worse += u32::from(moved == Moved::Worse);
        let ratio = |judged: &Judged| {
            judged
                .ratio
                .map_or("-".into(), |ratio| format!("{ratio:.2}"))
        };
        println!(
            "{:>10}{:>10}{:>7.0}%  {moved:<14} {}",
            ratio(was),
            ratio(is),
            noise(was, is) * 100.0,
            was.name,
        );
    }
    if both == 0 {
        bail!(
            "{} and {} have no target in common: nothing can be compared",
            args.before.display(),
            args.after.display()
        );
    }
    let only = before.len() + after.len() - 2 * both;
    if only > 0 {
        println!("{only} targets are in one of the folders only");
    }
    Ok(worse == 0)
}

fn targets(dir: &Path) -> Result<Vec<Judged>> {
    let results = BenchResult::all_of(dir)?;
    if results.is_empty() {
        bail!("there is no NAME/result.json in {}", dir.display());
    }
    if let Some(result) = results.iter().find(|result| result.smoke) {
        bail!(
            "{}/{} was run with --smoke: its figures say nothing",
            dir.display(),
            result.bench
        );
    }
    Ok(results
        .into_iter()
        .flat_map(|result| result.targets)
        .collect())
}

fn noise(was: &Judged, is: &Judged) -> f64 {
    was.noise.unwrap_or(0.0).max(is.noise.unwrap_or(0.0))
}

fn moved(was: &Judged, is: &Judged) -> Moved {
    let Some((before, after)) = was.ratio.zip(is.ratio) else {
        return Moved::Unknown;
    };
    // Above 1: worse.
    let factor = match is.better {
        Better::Lower => after / before,
        Better::Higher => before / after,
    };
    let bar = 1.0 + noise(was, is);
    if factor > bar {
        Moved::Worse
    } else if factor < 1.0 / bar {
        Moved::Better
    } else {
        Moved::NotSeen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ratio: Option<f64>, better: Better) -> Judged {
        Judged {
            name: "a target".to_owned(),
            ratio,
            target: 1.0,
            better,
            met: None,
            noise: Some(0.2),
        }
    }

    #[test]
    fn what_moved_by_more_than_the_noise_is_better_or_worse() {
        let moved_from = |before, after, better| {
            let judged = |ratio| judged(ratio, better);
            moved(&judged(Some(before)), &judged(Some(after)))
        };
        assert_eq!(moved_from(1.0, 1.19, Better::Lower), Moved::NotSeen);
        assert_eq!(moved_from(1.0, 1.21, Better::Lower), Moved::Worse);
        assert_eq!(moved_from(1.0, 0.5, Better::Lower), Moved::Better);
        assert_eq!(moved_from(4.0, 3.0, Better::Higher), Moved::Worse);
        assert_eq!(moved_from(4.0, 6.0, Better::Higher), Moved::Better);
        let unknown = judged(None, Better::Lower);
        assert_eq!(
            moved(&judged(Some(1.0), Better::Lower), &unknown),
            Moved::Unknown
        );
    }
}
