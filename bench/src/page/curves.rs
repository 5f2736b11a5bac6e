//! Percentile curves: how long it took, for which share of the samples at most.

use std::fmt::Write as _;

use super::{class, escape, put, scale};
use crate::harness::latencies::{Latencies, QUANTILES};
use crate::harness::{Measure, Outcome, Role};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 10.0;
/// Names of the curves.
const RIGHT: f64 = 250.0;
/// Beyond a quantile lies at least this share: the axis ends there.
const LEAST_BEYOND: f64 = 0.001;
const POINTS: u32 = 120;

struct Curve {
    name: String,
    class: &'static str,
    /// Several of one role have lines of several kinds.
    dash: usize,
    latencies: Latencies,
}

pub(super) fn draw(html: &mut String, outcome: &Outcome) {
    let curves = curves(outcome);
    if curves.is_empty() {
        return;
    }
    let points: Vec<Vec<(f64, f64)>> = curves
        .iter()
        .map(|curve| points(&curve.latencies))
        .collect();
    let all = points.iter().flatten().map(|(_, seconds)| *seconds);
    let Some(bounds) = scale::decades(all) else {
        return;
    };
    let across = |beyond: f64| {
        LEFT + scale::logarithmic(1.0 / beyond, (1.0, 1.0 / LEAST_BEYOND)) * (WIDTH - LEFT - RIGHT)
    };
    let up = |seconds: f64| {
        HEIGHT - BOTTOM - scale::logarithmic(seconds, bounds) * (HEIGHT - BOTTOM - TOP)
    };
    put!(
        html,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"percentiles\">\n"
    );
    for seconds in scale::ticks(bounds) {
        let y = up(seconds);
        put!(
            html,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            scale::with_unit(seconds, Measure::Seconds)
        );
    }
    for (name, quantile) in QUANTILES {
        let x = across(1.0 - quantile);
        put!(
            html,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0
        );
    }
    for (at, (curve, points)) in curves.iter().zip(&points).enumerate() {
        let path: Vec<String> = points
            .iter()
            .map(|(beyond, seconds)| format!("{:.1},{:.1}", across(*beyond), up(*seconds)))
            .collect();
        let y = TOP + 12.0 + at as f64 * 20.0;
        let (from, to) = (WIDTH - RIGHT + 14.0, WIDTH - RIGHT + 38.0);
        put!(
            html,
            "<polyline class=\"line {0} dash{1}\" points=\"{2}\"/>\
             <line class=\"line {0} dash{1}\" x1=\"{from}\" x2=\"{to}\" y1=\"{3}\" y2=\"{3}\"/>\
             <text class=\"tick\" x=\"{4}\" y=\"{y}\">{5}</text>\n",
            curve.class,
            curve.dash,
            path.join(" "),
            y - 4.0,
            to + 6.0,
            escape(&curve.name),
        );
    }
    html.push_str("</svg>\n");
}

fn curves(outcome: &Outcome) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for program in &outcome.programs {
        let kinds = program.runs.first().map(|run| run.latencies.keys());
        let several = kinds.clone().is_some_and(|kinds| kinds.count() > 1);
        for (nth, of) in kinds.into_iter().flatten().enumerate() {
            let Some(latencies) = program.latencies(of) else {
                continue;
            };
            // Beside ours in the same runs stands what it is compared with.
            let class = match (program.role, nth) {
                (Role::Ours, 0) if several => "floor",
                _ => class(program),
            };
            curves.push(Curve {
                name: if several {
                    of.clone()
                } else {
                    program.name.clone()
                },
                dash: curves.iter().filter(|curve| curve.class == class).count() % 4,
                class,
                latencies,
            });
        }
    }
    curves
}

/// The share that lies beyond, and the seconds; no further than may be quoted.
fn points(latencies: &Latencies) -> Vec<(f64, f64)> {
    (0..=POINTS)
        .map(|step| LEAST_BEYOND.powf(f64::from(step) / f64::from(POINTS)))
        .map_while(|beyond| Some((beyond, latencies.quoted(1.0 - beyond)?)))
        .collect()
}
