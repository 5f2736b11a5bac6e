//! A bar for each program: its median, and under it each of its runs.

use std::fmt::Write as _;

use super::{class, escape, put, scale};
use crate::harness::{Outcome, Role};

const WIDTH: f64 = 900.0;
/// Names to the left of the bars, figures to their right.
const LEFT: f64 = 250.0;
const RIGHT: f64 = 190.0;
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;
/// Where the dearest is more than so many times the cheapest, each step is a factor.
const FACTOR: f64 = 50.0;

pub(super) fn draw(html: &mut String, outcome: &Outcome) {
    let ran: Vec<_> = outcome
        .programs
        .iter()
        .filter_map(|program| Some((program, program.figure?)))
        .collect();
    let figures = || ran.iter().map(|(_, figure)| *figure);
    let (Some(decades), Some(most)) = (scale::decades(figures()), figures().reduce(f64::max))
    else {
        return;
    };
    let least = figures().fold(most, f64::min);
    let is_logarithmic = least > 0.0 && most / least > FACTOR;
    let along = |figure: f64| {
        let share = if is_logarithmic {
            // So that the cheapest has a bar, too.
            scale::logarithmic(figure, (decades.0 / 2.0, decades.1))
        } else {
            figure / most
        };
        share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let height = ran.len() as f64 * ROW + 6.0;
    put!(
        html,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(&outcome.compared)
    );
    // What may move by itself, around ours.
    let ours = ran.iter().find(|(program, _)| program.role == Role::Ours);
    if let (Some((_, ours)), Some(noise)) = (ours, outcome.noise) {
        let from = along(ours / (1.0 + noise));
        let to = along(ours * (1.0 + noise));
        put!(
            html,
            "<rect class=\"noise\" x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height}\"/>\n",
            LEFT + from,
            to - from
        );
    }
    for (at, (program, figure)) in ran.iter().enumerate() {
        let top = at as f64 * ROW + (ROW - BAR) / 2.0;
        let text = top + BAR - 3.5;
        let width = along(*figure).max(1.0);
        let over = match (program.role, program.over_ours) {
            (Role::Ours, _) | (_, None) => String::new(),
            (_, Some(over)) => format!(" · {}× ours", scale::short(over)),
        };
        put!(
            html,
            "<text class=\"name\" x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{}\" x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"figure\" x=\"{:.1}\" y=\"{text}\">{}{over}</text>\n",
            LEFT - 8.0,
            escape(&program.name),
            class(program),
            LEFT + width + 7.0,
            scale::with_unit(*figure, outcome.measure),
        );
    }
    html.push_str("</svg>\n");
    if is_logarithmic {
        html.push_str("<p class=\"note\">each step along a bar is a factor, not a sum</p>\n");
    }
}
