//! What the driver's errors mean to us: certainly not done, perhaps done, or never to be done.
//!
//! What is in doubt is unknown. A request that timed out on a node that did not answer was seen to be applied when
//! the node went on, and "unavailable" can come from the last phase of a compare-and-set, after it was decided.

use ::scylla::errors::{
    DbError, ExecutionError, NewSessionError, PrepareError, RequestAttemptError,
};

use crate::StoreError;

/// What a request would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// Nothing: it can only be refused.
    Read,
    /// A plain write.
    Write,
    /// A compare-and-set.
    Cas,
}

/// The remedy of all that `init` puts right.
pub(super) const INIT: &str = "run `onair store init --config onair.toml`";

/// An error of a request for `table` (`keyspace.table at nodes`).
pub(super) fn request(table: &str, intent: Intent, error: &ExecutionError) -> StoreError {
    let reason = format!("{table}: {error}");
    match meaning(intent, error) {
        Meaning::NotDone => StoreError::Unavailable { reason },
        Meaning::Unknown => StoreError::Unknown { reason },
        Meaning::Refused => StoreError::Unreadable {
            place: table.to_owned(),
            reason: error.to_string(),
            remedy: format!("{INIT}, which says what is wrong with the tables"),
        },
    }
}

/// An error of a new session.
pub(super) fn session(place: &str, error: &NewSessionError) -> StoreError {
    StoreError::Unavailable {
        reason: format!("{place}: {error}"),
    }
}

/// An error of preparing statements. A table that is not there is one.
pub(super) fn prepare(place: &str, error: &PrepareError) -> StoreError {
    let reason = format!("{place}: {error}");
    match error {
        PrepareError::AllAttemptsFailed {
            first_attempt: RequestAttemptError::DbError(db, _),
        } if is_refusal(db) => StoreError::Unreadable {
            place: place.to_owned(),
            reason: error.to_string(),
            remedy: INIT.to_owned(),
        },
        _ => StoreError::Unavailable { reason },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    NotDone,
    Unknown,
    Refused,
}

fn meaning(intent: Intent, error: &ExecutionError) -> Meaning {
    let attempt = match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => return Meaning::NotDone,
        ExecutionError::LastAttemptError(attempt) => attempt,
        _ => return in_doubt(intent),
    };
    match attempt {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::UnableToAllocStreamId
        | RequestAttemptError::RepreparedIdChanged { .. } => Meaning::NotDone,
        RequestAttemptError::DbError(db, _) if is_refusal(db) => Meaning::Refused,
        RequestAttemptError::DbError(
            DbError::Unauthorized | DbError::AuthenticationError | DbError::IsBootstrapping,
            _,
        ) => Meaning::NotDone,
        // Said before a plain write is begun; in a compare-and-set also after it was decided.
        RequestAttemptError::DbError(DbError::Unavailable { .. }, _) if intent != Intent::Cas => {
            Meaning::NotDone
        }
        _ => in_doubt(intent),
    }
}

fn in_doubt(intent: Intent) -> Meaning {
    match intent {
        Intent::Read => Meaning::NotDone,
        Intent::Write | Intent::Cas => Meaning::Unknown,
    }
}

/// Whether a node says that it will never do this: no such table, no such column, no such option.
fn is_refusal(error: &DbError) -> bool {
    matches!(
        error,
        DbError::SyntaxError | DbError::Invalid | DbError::ConfigError
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::scylla::errors::{DbError, WriteType};
    use ::scylla::statement::Consistency;

    use super::*;

    #[test]
    fn what_may_be_done_is_unknown() {
        use Intent::{Cas, Read, Write};
        use Meaning::{NotDone, Refused, Unknown};
        let db = |error: DbError| {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, String::new()))
        };
        let timeout = DbError::WriteTimeout {
            consistency: Consistency::LocalSerial,
            received: 0,
            required: 2,
            write_type: WriteType::Cas,
        };
        let unavailable = DbError::Unavailable {
            consistency: Consistency::LocalQuorum,
            required: 2,
            alive: 1,
        };
        let cases = [
            (db(timeout), [NotDone, Unknown, Unknown]),
            (db(unavailable), [NotDone, NotDone, Unknown]),
            (db(DbError::Overloaded), [NotDone, Unknown, Unknown]),
            (db(DbError::ServerError), [NotDone, Unknown, Unknown]),
            // CAS_WRITE_UNKNOWN.
            (db(DbError::Other(0x1700)), [NotDone, Unknown, Unknown]),
            (db(DbError::IsBootstrapping), [NotDone; 3]),
            (db(DbError::Unauthorized), [NotDone; 3]),
            (db(DbError::Invalid), [Refused; 3]),
            (
                ExecutionError::RequestTimeout(Duration::from_secs(1)),
                [NotDone, Unknown, Unknown],
            ),
            (ExecutionError::EmptyPlan, [NotDone; 3]),
        ];
        for (error, expected) in cases {
            let found = [Read, Write, Cas].map(|intent| meaning(intent, &error));
            assert_eq!(found, expected, "{error}");
        }
    }
}
