//! The arithmetic of every bench: medians, the noise bar, ratios, and whether a target is met. Pure.

use serde::Serialize;

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

/// Whether two costs differ by more than the noise bar.
pub fn differs(ratio: f64, noise: f64) -> bool {
    ratio.max(1.0 / ratio) - 1.0 > noise
}

/// What a ratio must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The others' cost over ours: at least this.
    TimesCheaper(f64),
    /// Our cost over the others': at most this.
    TimesTheCost(f64),
}

/// What a bench promises of us beside others.
#[derive(Clone, Debug)]
pub struct Target {
    /// Of which of the others the cheapest counts.
    pub beside: Vec<String>,
    /// What is promised.
    pub bound: Bound,
}

/// How a target went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// In words.
    pub name: String,
    /// Measured; `None` when none of the others ran.
    pub ratio: Option<f64>,
    /// Promised.
    pub target: f64,
    /// Whether it holds; `None` when that is unknown.
    pub met: Option<bool>,
}

impl Target {
    /// `cost` gives a program's median cost, if it ran. All of the others must have run.
    pub fn judge(&self, name: String, ours: &str, cost: impl Fn(&str) -> Option<f64>) -> Judged {
        let others: Option<Vec<f64>> = self.beside.iter().map(|other| cost(other)).collect();
        let best = others.and_then(|others| others.into_iter().reduce(f64::min));
        let costs = best.zip(cost(ours));
        let (target, ratio) = match self.bound {
            Bound::TimesCheaper(target) => (target, costs.map(|(best, ours)| best / ours)),
            Bound::TimesTheCost(target) => (target, costs.map(|(best, ours)| ours / best)),
        };
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        let met = ratio.map(|ratio| match self.bound {
            Bound::TimesCheaper(target) => ratio >= target,
            Bound::TimesTheCost(target) => ratio <= target,
        });
        Judged {
            name,
            ratio,
            target,
            met,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn judged(bound: Bound, beside: &[&str], costs: &[(&str, f64)]) -> (Option<f64>, Option<bool>) {
        let target = Target {
            beside: beside.iter().map(|name| (*name).to_owned()).collect(),
            bound,
        };
        let cost = |name: &str| {
            let found = costs.iter().find(|(known, _)| *known == name);
            found.map(|(_, cost)| *cost)
        };
        let judged = target.judge(String::new(), "ours", cost);
        (judged.ratio, judged.met)
    }

    #[test]
    fn targets_are_met_missed_or_unknown() {
        let costs = [("ours", 2.0), ("peer", 8.0), ("floor", 1.0)];
        let cheaper = |times| judged(Bound::TimesCheaper(times), &["peer"], &costs);
        assert_eq!(cheaper(4.0), (Some(4.0), Some(true)));
        assert_eq!(cheaper(4.1), (Some(4.0), Some(false)));
        let at_most = |times| judged(Bound::TimesTheCost(times), &["floor"], &costs);
        assert_eq!(at_most(2.0), (Some(2.0), Some(true)));
        assert_eq!(at_most(1.9), (Some(2.0), Some(false)));
        let absent = judged(Bound::TimesCheaper(4.0), &["absent"], &costs);
        assert_eq!(absent, (None, None));
        let no_ours = judged(Bound::TimesCheaper(4.0), &["peer"], &costs[1..]);
        assert_eq!(no_ours, (None, None));
        let nothing = judged(
            Bound::TimesCheaper(4.0),
            &["peer"],
            &[("ours", 0.0), ("peer", 0.0)],
        );
        assert_eq!(nothing, (None, None));
    }

    #[test]
    fn the_best_of_several_counts_and_all_must_have_run() {
        let costs = [("ours", 2.0), ("two", 8.0), ("four", 4.0)];
        let bound = Bound::TimesTheCost(1.2);
        let best = judged(bound, &["two", "four"], &costs);
        assert_eq!(best, (Some(0.5), Some(true)));
        assert_eq!(judged(bound, &["two", "eight"], &costs), (None, None));
    }
}
