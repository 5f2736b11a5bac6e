//! Where cargo works, and cargo started from a program that cargo started.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Gets what is built.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// `cargo`, without what the cargo that started this program told it about its package: build scripts (ring's is one)
/// take another package's name for a change, and with them a good part of the tree would be built anew each time.
pub fn command() -> Command {
    let mut command = Command::new("cargo");
    clean(&mut command);
    command
}

/// Takes what a cargo says of the package that it runs out of a command's environment.
pub fn clean(command: &mut Command) {
    let of_package = |name: &str| {
        name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || matches!(
                name,
                "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR"
            )
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
}
