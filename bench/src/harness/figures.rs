//! The arithmetic of every bench: medians, the noise bar, ratios, and whether a target is met. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The middle of some figures; the mean of the two middle ones of an even number. `None` when there are none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The noise bar: how far apart the floor's runs are, as a share of their median.
pub fn spread(figures: &[f64]) -> Option<f64> {
    let middle = median(figures.iter().copied()).filter(|middle| *middle > 0.0)?;
    let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some((highest - lowest) / middle)
}

/// A figure with three digits that say something.
pub fn short(figure: f64) -> String {
    let magnitude = if figure == 0.0 {
        0
    } else {
        figure.abs().log10().floor() as i32
    };
    let decimals = (2 - magnitude).clamp(0, 9) as usize;
    let text = format!("{figure:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Whether two costs differ by more than the noise bar.
pub fn differs(ratio: f64, noise: f64) -> bool {
    ratio.max(1.0 / ratio) - 1.0 > noise
}

/// What a program's cost is measured in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// CPU seconds of the process under test for each unit of work, user and system.
    Cpu,
    /// Seconds by the clock for each unit: where another process does the work.
    Wall,
    /// Bytes held for each unit when the work is done, beyond what was held before it.
    Memory,
    /// The most bytes ever held, for each unit.
    Peak,
    /// A quantile of latencies, in seconds: of which ones, and which.
    Latency(&'static str, f64),
    /// Something counted, for each unit.
    Count(&'static str),
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Cpu => f.write_str("CPU"),
            Figure::Wall => f.write_str("time"),
            Figure::Memory => f.write_str("memory"),
            Figure::Peak => f.write_str("peak memory"),
            Figure::Latency(of, at) => write!(f, "p{} {of}", at * 100.0),
            Figure::Count(what) => f.write_str(what),
        }
    }
}

/// A program's figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Of {
    pub program: String,
    pub figure: Figure,
}

impl Of {
    pub fn new(program: impl Into<String>, figure: Figure) -> Self {
        Of {
            program: program.into(),
            figure,
        }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.figure, self.program)
    }
}

/// What ours is compared with. All that is named must have run.
#[derive(Clone, Debug, PartialEq)]
pub enum Beside {
    /// The cheapest of these.
    Best(Vec<Of>),
    /// These together.
    Sum(Vec<Of>),
    /// Nothing: the figure itself is promised.
    Nothing,
}

/// What a ratio must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The others' cost over ours: at least this.
    TimesCheaper(f64),
    /// Our cost over the others': at most this. Beside nothing: our figure, in its unit.
    TimesTheCost(f64),
    /// Our cost is not above the others' by more than the noise bar.
    NoWorse,
}

/// What a bench promises of us.
#[derive(Clone, Debug)]
pub struct Target {
    pub ours: Of,
    pub beside: Beside,
    pub bound: Bound,
}

/// Which way a ratio is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
}

/// How a target went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// In words.
    pub name: String,
    /// Measured; `None` when one of the others did not run.
    pub ratio: Option<f64>,
    /// Promised.
    pub target: f64,
    pub better: Better,
    /// Whether it holds; `None` when that is unknown.
    pub met: Option<bool>,
    /// Of the comparison: a ratio that moves by less than this has not moved.
    pub noise: Option<f64>,
}

impl Target {
    /// Of our only program, beside the cheapest of these in the same figure.
    pub fn beside(
        ours: impl Into<String>,
        others: impl IntoIterator<Item = impl Into<String>>,
        figure: Figure,
        bound: Bound,
    ) -> Self {
        let others = others.into_iter().map(|other| Of::new(other, figure));
        Target {
            ours: Of::new(ours, figure),
            beside: Beside::Best(others.collect()),
            bound,
        }
    }

    /// `figure` gives a program's figure, if it ran and has it.
    pub fn judge(
        &self,
        case: &str,
        noise: Option<f64>,
        figure: impl Fn(&Of) -> Option<f64>,
    ) -> Judged {
        let all = |others: &[Of]| others.iter().map(&figure).collect::<Option<Vec<f64>>>();
        let beside = match &self.beside {
            Beside::Best(others) => all(others).and_then(|f| f.into_iter().reduce(f64::min)),
            Beside::Sum(others) => all(others).map(|figures| figures.into_iter().sum()),
            Beside::Nothing => Some(1.0),
        };
        let figures = beside.zip(figure(&self.ours));
        let ratio = figures.map(|(beside, ours)| match self.bound {
            Bound::TimesCheaper(_) => beside / ours,
            Bound::TimesTheCost(_) | Bound::NoWorse => ours / beside,
        });
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        let (target, better) = match self.bound {
            Bound::TimesCheaper(target) => (target, Better::Higher),
            Bound::TimesTheCost(target) => (target, Better::Lower),
            Bound::NoWorse => (1.0 + noise.unwrap_or(0.0), Better::Lower),
        };
        let met = ratio.map(|ratio| match better {
            Better::Higher => ratio >= target,
            Better::Lower => ratio <= target,
        });
        Judged {
            name: format!("{case}: {}", self.in_words()),
            ratio,
            target,
            better,
            met,
            noise,
        }
    }

    fn in_words(&self) -> String {
        let list = |others: &[Of], by: &str| {
            let words: Vec<String> = others.iter().map(Of::to_string).collect();
            words.join(by)
        };
        let beside = match &self.beside {
            Beside::Best(others) if others.len() == 1 => list(others, ""),
            Beside::Best(others) => format!("the best of ({})", list(others, ", ")),
            Beside::Sum(others) => list(others, " + "),
            Beside::Nothing => return self.alone(),
        };
        match self.bound {
            Bound::TimesCheaper(times) => {
                format!("{beside} at least {} times {}", short(times), self.ours)
            }
            Bound::TimesTheCost(times) => {
                format!("{} at most {} times {beside}", self.ours, short(times))
            }
            Bound::NoWorse => format!("{} no worse than {beside}", self.ours),
        }
    }

    fn alone(&self) -> String {
        match self.bound {
            Bound::TimesCheaper(least) => format!("1 / ({}) at least {}", self.ours, short(least)),
            Bound::TimesTheCost(most) => format!("{} at most {}", self.ours, short(most)),
            Bound::NoWorse => self.ours.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_short() {
        let texts = [
            44.800_000_000_000_004,
            1.0 / 0.7,
            20.0,
            0.002_6,
            2795.6,
            0.0,
        ]
        .map(short);
        assert_eq!(texts, ["44.8", "1.43", "20", "0.0026", "2796", "0"]);
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn the_noise_bar_is_the_spread_of_the_floor() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[5.0]), Some(0.0));
        assert_eq!(spread(&[10.0, 9.0, 11.0]), Some(0.2));
        assert_eq!(spread(&[0.0, 0.0]), None);
    }

    #[test]
    fn a_difference_below_the_bar_is_none_in_both_directions() {
        assert!(!differs(1.15, 0.2));
        assert!(!differs(1.0 / 1.15, 0.2));
        assert!(differs(1.25, 0.2));
        assert!(differs(1.0 / 1.25, 0.2));
        assert!(!differs(1.0, 0.0));
    }

    const COSTS: [(&str, f64); 3] = [("ours", 2.0), ("peer", 8.0), ("floor", 1.0)];

    fn judged(target: &Target, noise: Option<f64>) -> Judged {
        target.judge("case", noise, |of| {
            let found = COSTS.iter().find(|(known, _)| *known == of.program);
            found.map(|(_, cost)| *cost)
        })
    }

    fn beside(bound: Bound, others: &[&str]) -> (Option<f64>, Option<bool>) {
        let target = Target::beside("ours", others.iter().copied(), Figure::Cpu, bound);
        let judged = judged(&target, Some(0.5));
        (judged.ratio, judged.met)
    }

    #[test]
    fn targets_are_met_missed_or_unknown() {
        let cheaper = |times| beside(Bound::TimesCheaper(times), &["peer"]);
        assert_eq!(cheaper(4.0), (Some(4.0), Some(true)));
        assert_eq!(cheaper(4.1), (Some(4.0), Some(false)));
        let at_most = |times| beside(Bound::TimesTheCost(times), &["floor"]);
        assert_eq!(at_most(2.0), (Some(2.0), Some(true)));
        assert_eq!(at_most(1.9), (Some(2.0), Some(false)));
        assert_eq!(beside(Bound::TimesCheaper(4.0), &["absent"]), (None, None));
        // The best of the others counts, and all of them must have run.
        let best = beside(Bound::TimesTheCost(1.2), &["peer", "floor"]);
        assert_eq!(best, (Some(2.0), Some(false)));
        let partly = beside(Bound::TimesTheCost(9.0), &["peer", "absent"]);
        assert_eq!(partly, (None, None));
    }

    #[test]
    fn no_worse_means_within_the_noise() {
        assert_eq!(
            beside(Bound::NoWorse, &["floor"]),
            (Some(2.0), Some(false)),
            "twice is more than 50 % above"
        );
        let target = Target::beside("ours", ["floor"], Figure::Cpu, Bound::NoWorse);
        let judged = judged(&target, Some(1.0));
        assert_eq!((judged.target, judged.met), (2.0, Some(true)));
    }

    #[test]
    fn sums_and_bare_figures() {
        let sum = Target {
            ours: Of::new("ours", Figure::Wall),
            beside: Beside::Sum(vec![
                Of::new("peer", Figure::Wall),
                Of::new("floor", Figure::Cpu),
            ]),
            bound: Bound::TimesTheCost(1.5),
        };
        let first = judged(&sum, None);
        assert_eq!(first.ratio, Some(2.0 / 9.0));
        assert_eq!(
            first.name,
            "case: time of ours at most 1.5 times time of peer + CPU of floor"
        );
        let alone = Target {
            beside: Beside::Nothing,
            ours: Of::new("ours", Figure::Count("head CAS")),
            ..sum
        };
        let alone = judged(&alone, None);
        assert_eq!((alone.ratio, alone.met), (Some(2.0), Some(false)));
        assert_eq!(alone.name, "case: head CAS of ours at most 1.5");
    }
}
