//! For tests: statements that the store never sends, in its keyspace.

#![expect(
    clippy::unwrap_used,
    reason = "for tests: a failure is a panic with its place"
)]

use std::fmt;

use ::scylla::client::session::Session;

use super::Settings;
use super::session::session;

/// Somebody with all rights and no care. In a text `{}` is the keyspace.
pub struct Operator {
    session: Session,
    keyspace: String,
}

impl Operator {
    /// In the keyspace of these settings.
    pub async fn new(settings: &Settings) -> Self {
        Operator {
            session: session(settings).await.unwrap(),
            keyspace: settings.keyspace.clone(),
        }
    }

    /// Runs a statement.
    pub async fn run(&self, text: &str) {
        let text = text.replace("{}", &self.keyspace);
        self.session.query_unpaged(text, ()).await.unwrap();
    }

    /// Runs a query of one column of ints; nulls are `None`.
    pub async fn ints(&self, text: &str) -> Vec<Option<i32>> {
        let text = text.replace("{}", &self.keyspace);
        let answer = self.session.query_unpaged(text, ()).await.unwrap();
        let rows = answer.into_rows_result().unwrap();
        let rows = rows.rows::<(Option<i32>,)>().unwrap();
        rows.map(|row| row.unwrap().0).collect()
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyspace = &self.keyspace;
        f.debug_struct("Operator")
            .field("keyspace", keyspace)
            .finish_non_exhaustive()
    }
}
