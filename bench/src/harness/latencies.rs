//! Latencies in nanoseconds, and what may be said of them.

use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// What is recorded lies between these; what lies beyond is an error, never cut off.
const BOUNDS_NANOS: (u64, u64) = (1, 600_000_000_000);
const DIGITS: u8 = 3;
/// A quantile is quoted when at least so many samples lie beyond it.
const BEYOND_MIN: f64 = 10.0;

/// Those that are printed.
pub const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Latencies of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let (low, high) = BOUNDS_NANOS;
        let histogram = Histogram::new_with_bounds(low, high, DIGITS);
        Latencies(histogram.expect("the bounds make sense"))
    }

    /// An error when it takes longer than anything is waited for.
    pub fn record(&mut self, latency: Duration) -> Result<()> {
        let nanos = u64::try_from(latency.as_nanos())?;
        Ok(self.0.record(nanos.max(BOUNDS_NANOS.0))?)
    }

    /// Takes in others.
    pub fn add(&mut self, others: &Latencies) -> Result<()> {
        Ok(self.0.add(&others.0)?)
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Seconds, whatever the number of samples.
    pub fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e9
    }

    /// Seconds; `None` where too few samples lie beyond.
    pub fn quoted(&self, quantile: f64) -> Option<f64> {
        let may_be_quoted = quantile <= 1.0 - BEYOND_MIN / self.0.len() as f64;
        may_be_quoted.then(|| self.at(quantile))
    }

    /// The longest, in seconds.
    pub fn max(&self) -> f64 {
        self.0.max() as f64 / 1e9
    }

    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies::new()
    }
}

impl From<Latencies> for String {
    /// HdrHistogram's V2 form, deflated, in base64: what its other tools read.
    fn from(latencies: Latencies) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&latencies.0, &mut bytes)
            .expect("a vector takes everything");
        STANDARD.encode(bytes)
    }
}

impl TryFrom<String> for Latencies {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let bytes = STANDARD.decode(text)?;
        Ok(Latencies(Deserializer::new().deserialize(&mut &bytes[..])?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_quoted_that_few_samples_lie_beyond() {
        let mut latencies = Latencies::new();
        for micros in 1..=999 {
            latencies
                .record(Duration::from_micros(micros))
                .expect("within the bounds");
        }
        assert_eq!(latencies.quoted(0.99), None, "9.99 samples lie beyond");
        latencies
            .record(Duration::from_millis(1))
            .expect("within the bounds");
        let p99 = latencies.quoted(0.99).expect("10 samples lie beyond");
        assert!((p99 - 990e-6).abs() < 2e-6, "{p99}");
        assert_eq!(latencies.quoted(0.999), None);
    }

    #[test]
    fn what_lies_beyond_the_bounds_is_an_error() {
        let mut latencies = Latencies::new();
        latencies
            .record(Duration::from_secs(2_000))
            .expect_err("longer than anything is waited for");
        assert_eq!(latencies.count(), 0);
    }

    #[test]
    fn they_survive_their_written_form() {
        let mut latencies = Latencies::new();
        for nanos in [1, 1_000, 1_234_567, 59_000_000_000] {
            latencies
                .record(Duration::from_nanos(nanos))
                .expect("within the bounds");
        }
        let text = serde_json::to_string(&latencies).expect("it can be written");
        let back: Latencies = serde_json::from_str(&text).expect("it can be read");
        assert_eq!(back, latencies);
    }
}
