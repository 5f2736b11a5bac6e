//! The command line, from outside: its texts and forms against golden files, and the process itself.
//!
//! `ONAIR_BLESS=1` writes the golden files anew; look at the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod configuration;
mod docker;
mod forms;
mod past;
mod process;
mod runs;
mod starved;
mod texts;
mod tls;

/// Compares with a file of tests/golden.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("ONAIR_BLESS").is_some() {
        std::fs::write(&path, text).expect("golden files can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, expected,
        "{name} differs; if it should, run with ONAIR_BLESS=1"
    );
}
