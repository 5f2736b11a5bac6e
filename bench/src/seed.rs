//! The seed of a random run: printed, and given back to repeat the run.

use rand::random;

/// The seed in `ONAIR_TEST_SEED`, else a new one; printed with what it is for.
pub fn seed(what: &str) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no configuration file: this is the one place of the bench that reads the environment"
    )]
    let given = std::env::var("ONAIR_TEST_SEED").ok();
    let seed = given
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(random);
    println!("{what}: ONAIR_TEST_SEED={seed}");
    seed
}
