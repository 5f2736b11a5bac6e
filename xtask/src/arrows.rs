//! The arrows between the crates of this repository: which may depend on which.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Each crate and those that it may depend on. The arrows go one way, from values to services to
/// the one binary, and no service imports another.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("proto", &["model"]),
    ("log", &["model", "proto"]),
    ("store", &["model", "proto"]),
    ("cdc", &["model", "proto", "log", "store"]),
    ("merger", &["model", "proto", "log", "store"]),
    ("server", &["model", "proto", "log", "store"]),
    ("sdk", &["model", "proto"]),
    (
        "bench",
        &[
            "model", "proto", "log", "store", "cdc", "merger", "server", "sdk", "xtask",
        ],
    ),
    (
        "onair",
        &[
            "model", "proto", "log", "store", "cdc", "merger", "server", "sdk", "bench",
        ],
    ),
    ("xtask", &[]),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrow {
    from: String,
    to: String,
    is_dev: bool,
}

/// Reads the arrows from `cargo metadata` and gives what is wrong with them, a line each.
pub(crate) fn check() -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(onair_xtask::cargo::repository())
        .output()
        .context("cannot start `cargo`")?;
    if !output.status.success() {
        bail!(
            "`cargo metadata` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(faults(&arrows(&metadata)?))
}

fn arrows(metadata: &Value) -> Result<Vec<Arrow>> {
    let list = |value: &Value, name: &str| -> Result<Vec<Value>> {
        let list = value[name].as_array().cloned();
        list.with_context(|| format!("`cargo metadata` has no {name}"))
    };
    let mut arrows = Vec::new();
    for package in list(metadata, "packages")? {
        for dependency in list(&package, "dependencies")? {
            // Only our own are by path.
            if dependency["path"].is_string() {
                arrows.push(Arrow {
                    from: noun(&package["name"]),
                    to: noun(&dependency["name"]),
                    is_dev: dependency["kind"] == "dev",
                });
            }
        }
    }
    Ok(arrows)
}

/// A package's name without the prefix that all have.
fn noun(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    name.strip_prefix("onair-").unwrap_or(name).to_owned()
}

fn faults(arrows: &[Arrow]) -> Vec<String> {
    arrows.iter().filter_map(fault).collect()
}

fn fault(Arrow { from, to, is_dev }: &Arrow) -> Option<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == from) else {
        return Some(format!(
            "{from} is new: say in xtask/src/arrows.rs what it may depend on"
        ));
    };
    // Every crate's tests may use the golden texts and the servers of xtask.
    let is_for_its_tests = *is_dev && (from == to || to == "xtask");
    if is_for_its_tests || allowed.contains(&to.as_str()) {
        return None;
    }
    let kind = if *is_dev {
        "dev-dependencies"
    } else {
        "dependencies"
    };
    Some(format!(
        "{from} must not depend on {to} ({from}/Cargo.toml, [{kind}])"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, is_dev: bool) -> bool {
        faults(&[Arrow {
            from: from.into(),
            to: to.into(),
            is_dev,
        }])
        .is_empty()
    }

    #[test]
    fn arrows_go_one_way() {
        assert!(check("merger", "store", false));
        assert!(!check("merger", "server", false));
        assert!(!check("server", "cdc", true));
        assert!(!check("model", "proto", false));
        assert!(!check("sdk", "store", false));
        assert!(check("onair", "server", false));
        assert!(!check("bench", "onair", false));
        assert!(!check("unheard-of", "model", false));
    }

    #[test]
    fn xtask_is_for_tests() {
        assert!(check("cdc", "xtask", true));
        assert!(!check("cdc", "xtask", false));
        assert!(check("sdk", "xtask", true));
        assert!(!check("sdk", "xtask", false));
        assert!(check("model", "model", true));
    }

    #[test]
    fn metadata_is_read() {
        let metadata = serde_json::json!({"packages": [{"name": "onair-sdk", "dependencies": [
            {"name": "onair-xtask", "kind": "dev", "path": "/x"},
            {"name": "onair-model", "kind": null, "path": "/m"},
            {"name": "tokio", "kind": null},
        ]}]});
        let arrow = |to: &str, is_dev| Arrow {
            from: "sdk".into(),
            to: to.into(),
            is_dev,
        };
        let expected = [arrow("xtask", true), arrow("model", false)];
        assert_eq!(
            arrows(&metadata).expect("it has all that is read"),
            expected
        );
    }
}
