//! Where a fault test wants this process to end as if by `kill -9`: `ONAIR_FAILPOINT=name:hits`, in builds with
//! the feature `plant` only.

/// Arms the failpoint that the environment names, if it names one.
#[expect(
    clippy::disallowed_methods,
    reason = "not configuration: a test's trigger, absent from real builds"
)]
pub(crate) fn arm() {
    if let Ok(text) = std::env::var("ONAIR_FAILPOINT")
        && let Some((name, hits)) = text.rsplit_once(':')
        && let Ok(hits) = hits.parse()
    {
        onair_model::plant::fail_at(name, hits);
    }
}
