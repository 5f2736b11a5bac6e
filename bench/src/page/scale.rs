//! Numbers as people read them, and where they stand in a picture. Pure.

use crate::harness::Measure;

/// Three digits, no more.
pub(super) fn short(number: f64) -> String {
    let digits = match number.abs() {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.digits$}")
}

/// With its unit.
pub(super) fn with_unit(figure: f64, measure: Measure) -> String {
    let steps: &[(f64, &str)] = match measure {
        Measure::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
        Measure::Bytes => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")],
        Measure::Times => &[(1.0, "")],
    };
    let least = steps[steps.len() - 1];
    let step = steps.iter().find(|(size, _)| figure.abs() >= *size);
    let (size, unit) = *step.unwrap_or(&least);
    format!("{} {unit}", short(figure / size))
        .trim_end()
        .to_owned()
}

/// Where a value stands between two others when each step is a factor: 0 at the lower one, 1 at the higher one.
pub(super) fn logarithmic(value: f64, (low, high): (f64, f64)) -> f64 {
    (value.max(low) / low).ln() / (high / low).ln()
}

/// The powers of ten around all of these. `None` when there are none above zero.
pub(super) fn decades(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let mut around: Option<(f64, f64)> = None;
    for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
        let (low, high) = around.unwrap_or((value, value));
        around = Some((low.min(value), high.max(value)));
    }
    let (low, high) = around?;
    let low = 10_f64.powf(low.log10().floor());
    let high = 10_f64.powf(high.log10().ceil());
    Some((low, if high > low { high } else { low * 10.0 }))
}

/// The powers of ten from one to another.
pub(super) fn ticks((low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    let steps = (high / low).log10().round() as i32;
    (0..=steps).map(move |step| low * 10_f64.powi(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_their_units() {
        assert_eq!(with_unit(0.001_234, Measure::Seconds), "1.23 ms");
        assert_eq!(with_unit(12.3e-9, Measure::Seconds), "12.3 ns");
        assert_eq!(with_unit(3e-10, Measure::Seconds), "0.30 ns");
        assert_eq!(with_unit(28_000.0, Measure::Bytes), "28.0 kB");
        assert_eq!(with_unit(0.5, Measure::Times), "0.50");
    }

    #[test]
    fn decades_hold_what_they_are_of() {
        assert_eq!(decades([].into_iter()), None);
        assert_eq!(decades([0.0, 3.0].into_iter()), Some((1.0, 10.0)));
        assert_eq!(decades([10.0].into_iter()), Some((10.0, 100.0)));
        let (low, high) = decades([0.002, 5.0].into_iter()).expect("two values");
        assert!((low - 0.001).abs() < 1e-9 && (high - 10.0).abs() < 1e-9);
        assert_eq!(ticks((low, high)).count(), 5);
    }

    #[test]
    fn a_factor_is_a_step() {
        assert!((logarithmic(10.0, (1.0, 100.0)) - 0.5).abs() < 1e-9);
        assert!(logarithmic(0.1, (1.0, 100.0)).abs() < 1e-9);
    }
}
