//! Cargo started from a program that cargo started.

use std::process::Command;

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
