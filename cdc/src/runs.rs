//! What the reader does with the rows of runs in the store, once a second: saves how its own run is, reads what
//! operators wish, asks for scheduled runs, takes the next one, forgets old ones.

use std::sync::Arc;
use std::time::Duration;

use onair_store::checkpoint::Held;
use onair_store::runs::{self, Asked, Origin, Run, RunError, Saved, State, Wish};
use onair_store::{ShardStore, Token};
use tracing::{info, warn};

use crate::clock;
use crate::reader::Ended;

/// A run that was begun this often and never came to an end is given up.
const BEGUN_MAX: u32 = 5;

/// Old runs that are deleted at once.
const FORGOTTEN_MAX: usize = 32;

/// A run as this reader has it, and what it last knew to stand in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// `None`: of this reader's own making, and not entered yet.
    pub(crate) token: Option<Token>,
    pub(crate) run: Run,
}

/// A run's feed and id.
pub(crate) type Name = (Arc<str>, Arc<str>);

/// What is to be done with the rows.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) reader: String,
    pub(crate) feeds: Vec<Arc<str>>,
    /// To be saved: the run under way if it changed, and those that are over.
    pub(crate) reports: Vec<Report>,
    /// The run under way.
    pub(crate) current: Option<Name>,
    /// A scheduled scan of every feed is due.
    pub(crate) is_due: bool,
    /// Whether a run may be taken.
    pub(crate) is_idle: bool,
    /// Runs that ended longer ago than this are deleted.
    pub(crate) window: Duration,
}

/// What was found and done.
#[derive(Debug)]
pub(crate) enum Brought {
    /// Nothing that concerns us.
    Nothing,
    /// Our run as it stands, with what is wished.
    Ours(Held<Run>),
    /// This run of ours is over or another's.
    TakenAway(Name),
    /// A run that is ours from now on.
    Taken(Held<Run>),
}

pub(crate) async fn run(store: &dyn ShardStore, errand: Errand) -> Result<Brought, Ended> {
    let mut taken_away = None;
    for Report { token, run } in errand.reports {
        let (feed, id) = (Arc::clone(&run.feed), Arc::clone(&run.id));
        if runs::save(store, token, run).await? == Saved::TakenAway {
            warn!(%feed, run = %id, "the run is another's by now");
            taken_away = errand.current.as_ref().filter(|name| **name == (feed, id));
        }
    }
    if let Some(name) = taken_away {
        return Ok(Brought::TakenAway(name.clone()));
    }
    let mut all = Vec::new();
    for feed in &errand.feeds {
        let mut of_feed = runs::list(store, feed).await?;
        forget(store, &of_feed, errand.window).await?;
        let is_standing = of_feed.iter().any(|run| !run.value.state.is_over());
        if errand.is_due && !is_standing {
            schedule(store, feed).await?;
        }
        of_feed.retain(|run| !run.value.state.is_over());
        all.append(&mut of_feed);
    }
    if let Some(name) = errand.current {
        let (feed, id) = &name;
        let ours = all
            .into_iter()
            .find(|held| held.value.feed == *feed && held.value.id == *id);
        return Ok(match ours {
            Some(ours) => Brought::Ours(ours),
            None => Brought::TakenAway(name),
        });
    }
    if errand.is_idle {
        all.sort_by(|a, b| a.value.id.cmp(&b.value.id));
        for held in all {
            if let Some(taken) = take(store, held, &errand.reader).await? {
                return Ok(Brought::Taken(taken));
            }
        }
    }
    Ok(Brought::Nothing)
}

/// Asks for a run of a feed, as the clock says.
async fn schedule(store: &dyn ShardStore, feed: &Arc<str>) -> Result<(), Ended> {
    let asked = Asked {
        feed: Arc::clone(feed),
        origin: Origin::Schedule,
        dry_run: false,
        rate_max: None,
    };
    match runs::ask(store, asked, clock::unix_micros()).await {
        Ok(_) => Ok(()),
        Err(RunError::Store(error)) => Err(error.into()),
        // Somebody asked meanwhile: the feed is scanned anyway.
        Err(error) => {
            info!(error = %error, "no scheduled run is asked for");
            Ok(())
        }
    }
}

/// What to do with a run that is not over, and that no scan of this reader is for.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Leave,
    /// Its detail from now on.
    Take(String),
    End(State, String),
}

fn next(run: &Run) -> Next {
    if !run.is_taken() {
        return match run.state {
            State::Asked => Next::Take(String::new()),
            _ => Next::Leave,
        };
    }
    let interrupted = run.detail.strip_prefix(INTERRUPTED);
    let why = interrupted.unwrap_or("the reader was restarted");
    match (run.state, run.wish) {
        (_, Some(Wish::Cancel)) => Next::End(State::Cancelled, String::new()),
        (State::Held, _) if run.origin == Origin::Epoch => {
            let text = "the reader began anew, and the epoch has opened since";
            Next::End(State::Failed, text.to_owned())
        }
        (State::Paused, Some(Wish::Resume)) => Next::Take(format!("begun again: {why}")),
        (State::Paused, _) => Next::Leave,
        _ if run.begun >= BEGUN_MAX => {
            let text = format!("begun {BEGUN_MAX} times without coming to an end: {why}");
            Next::End(State::Failed, text)
        }
        _ => Next::Take(format!("begun again: {why}")),
    }
}

async fn take(
    store: &dyn ShardStore,
    mut held: Held<Run>,
    reader: &str,
) -> Result<Option<Held<Run>>, Ended> {
    let now = clock::unix_micros();
    match next(&held.value) {
        Next::Leave => Ok(None),
        Next::Take(detail) => {
            held.value.detail = detail;
            Ok(runs::take(store, held, reader, now).await?)
        }
        Next::End(state, detail) => {
            let Held {
                token,
                value: mut run,
            } = held;
            info!(feed = %run.feed, run = %run.id, state = state.name(), detail, "a run that no reader was at is over");
            run.end(state, now);
            run.detail = detail;
            // Whatever was wished meanwhile, there is nothing left to do.
            runs::save(store, Some(token), run).await?;
            Ok(None)
        }
    }
}

/// How the detail begins of a run whose reader could still say why it left it.
pub(crate) const INTERRUPTED: &str = "interrupted: ";

/// Deletes what is older than the window.
async fn forget(store: &dyn ShardStore, all: &[Held<Run>], window: Duration) -> Result<(), Ended> {
    let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
    let oldest = clock::unix_micros().saturating_sub(window);
    let old = all
        .iter()
        .filter(|held| held.value.ended.is_some_and(|ended| ended < oldest));
    for held in old.take(FORGOTTEN_MAX) {
        runs::forget(store, held).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(origin: Origin, state: State, begun: u32) -> Run {
        let asked = Asked {
            feed: "rooms".into(),
            origin,
            dry_run: false,
            rate_max: None,
        };
        let mut run = Run::new(asked, 1_800_000_000_000_000);
        run.state = state;
        run.begun = begun;
        run
    }

    #[test]
    fn a_run_without_a_reader_is_taken_left_or_ended() {
        let again = |why: &str| Next::Take(format!("begun again: {why}"));
        let restarted = "the reader was restarted";
        let operator = |state, begun| run(Origin::Operator, state, begun);
        let wished = |state, wish| Run {
            wish: Some(wish),
            ..operator(state, 1)
        };
        for (run, expected) in [
            (operator(State::Asked, 0), Next::Take(String::new())),
            (operator(State::Paused, 0), Next::Leave),
            (operator(State::Running, 1), again(restarted)),
            (operator(State::Held, 1), again(restarted)),
            (operator(State::Paused, 1), Next::Leave),
            (wished(State::Running, Wish::Pause), again(restarted)),
            (wished(State::Paused, Wish::Resume), again(restarted)),
            (
                wished(State::Paused, Wish::Cancel),
                Next::End(State::Cancelled, String::new()),
            ),
        ] {
            assert_eq!(next(&run), expected, "{run:?}");
        }
        let interrupted = Run {
            detail: format!("{INTERRUPTED}no connection"),
            ..operator(State::Running, 1)
        };
        assert_eq!(next(&interrupted), again("no connection"));
        for given_up in [
            operator(State::Running, BEGUN_MAX),
            run(Origin::Epoch, State::Held, 1),
        ] {
            assert!(matches!(next(&given_up), Next::End(State::Failed, why) if !why.is_empty()));
        }
        let resumed = Run {
            begun: 100,
            ..wished(State::Paused, Wish::Resume)
        };
        assert_eq!(next(&resumed), again(restarted), "as often as is asked");
    }
}
