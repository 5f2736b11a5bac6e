//! Where something was measured, and how busy it was there.

use std::fs;

use serde::{Deserialize, Serialize};

/// A machine, in its own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub processors: usize,
    pub processor: Option<String>,
    pub memory: Option<String>,
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field("/proc/cpuinfo", "model name"),
            memory: field("/proc/meminfo", "MemTotal"),
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// Load averages of the last 1, 5 and 15 minutes.
pub fn load() -> Vec<f64> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .filter_map(|number| number.parse().ok())
        .collect()
}
