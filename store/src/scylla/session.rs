//! The driver's session and its prepared statements, made anew when no connection is left.
//!
//! After a restart of the nodes a session's own back-off brings it back after 4 to 10 seconds; a new one takes a fifth
//! of one. So a request that finds no connection makes a new session and is sent by that, once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::scylla::client::execution_profile::ExecutionProfile;
use ::scylla::client::session::Session;
use ::scylla::client::session_builder::SessionBuilder;
use ::scylla::errors::{ExecutionError, PrepareError};
use ::scylla::policies::load_balancing::DefaultPolicy;
use ::scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use ::scylla::response::query_result::QueryResult;
use ::scylla::response::{PagingState, PagingStateResponse};
use ::scylla::serialize::row::SerializeRow;
use ::scylla::statement::prepared::PreparedStatement;
use onair_model::plant::{Bug, planted};
use tokio::sync::Mutex;

use super::errors::{self, Intent};
use super::settings::{Scope, Settings};
use crate::StoreError;

/// After a new session could not be made, none is tried for so long.
const RENEW_PAUSE: Duration = Duration::from_millis(200);

/// Lines of a page. At their largest, 256 KB each, a page has 16 MB.
const PAGE: i32 = 64;

/// A statement, by what it is for. `{}` is the keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Cell,
    InsertCell,
    MoveCell,
    DeleteCell,
    NoteName,
    Names,
    ForgetName,
    WritePart,
    Part,
    DeletePart,
    NoteWindow,
    Windows,
    ForgetWindow,
    WriteLine,
    Lines,
    DeleteLine,
}

impl Ask {
    const ALL: [Ask; 16] = [
        Ask::Cell,
        Ask::InsertCell,
        Ask::MoveCell,
        Ask::DeleteCell,
        Ask::NoteName,
        Ask::Names,
        Ask::ForgetName,
        Ask::WritePart,
        Ask::Part,
        Ask::DeletePart,
        Ask::NoteWindow,
        Ask::Windows,
        Ask::ForgetWindow,
        Ask::WriteLine,
        Ask::Lines,
        Ask::DeleteLine,
    ];

    /// No client timestamp on anything that a lightweight transaction writes: ballots order those, whatever the clocks.
    /// What is forgotten is so up to the timestamp that was seen: noted again since, it stays.
    const fn text(self) -> &'static str {
        match self {
            Ask::Cell => {
                "SELECT attempt, value FROM {}.cells WHERE kind = ? AND first = ? AND second = ?"
            }
            Ask::InsertCell => {
                "INSERT INTO {}.cells (kind, first, second, attempt, value) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS"
            }
            Ask::MoveCell => {
                "UPDATE {}.cells SET attempt = ?, value = ? WHERE kind = ? AND first = ? AND second = ? IF attempt = ?"
            }
            Ask::DeleteCell => {
                "DELETE FROM {}.cells WHERE kind = ? AND first = ? AND second = ? IF attempt = ?"
            }
            Ask::NoteName => {
                "INSERT INTO {}.names (kind, first, second, noted) VALUES (?, ?, ?, true)"
            }
            Ask::Names => {
                "SELECT second, writetime(noted), toUnixTimestamp(now()) FROM {}.names WHERE kind = ? AND first = ?"
            }
            Ask::ForgetName => {
                "DELETE FROM {}.names USING TIMESTAMP ? WHERE kind = ? AND first = ? AND second = ?"
            }
            Ask::WritePart => "INSERT INTO {}.segments (feed, id, part, bytes) VALUES (?, ?, ?, ?)",
            Ask::Part => "SELECT bytes FROM {}.segments WHERE feed = ? AND id = ? AND part = ?",
            Ask::DeletePart => "DELETE FROM {}.segments WHERE feed = ? AND id = ? AND part = ?",
            Ask::NoteWindow => {
                "INSERT INTO {}.windows (feed, \"window\", noted) VALUES (?, ?, true)"
            }
            Ask::Windows => {
                "SELECT \"window\", writetime(noted), toUnixTimestamp(now()) FROM {}.windows \
                 WHERE feed = ? AND \"window\" >= ? AND \"window\" <= ?"
            }
            Ask::ForgetWindow => {
                "DELETE FROM {}.windows USING TIMESTAMP ? WHERE feed = ? AND \"window\" = ?"
            }
            Ask::WriteLine => {
                "INSERT INTO {}.history (feed, \"window\", at, id, value) VALUES (?, ?, ?, ?, ?)"
            }
            Ask::Lines => {
                "SELECT at, id, value FROM {}.history WHERE feed = ? AND \"window\" = ? AND at >= ? AND at < ?"
            }
            Ask::DeleteLine => {
                "DELETE FROM {}.history WHERE feed = ? AND \"window\" = ? AND at = ? AND id = ?"
            }
        }
    }

    pub(super) const fn table(self) -> &'static str {
        match self {
            Ask::Cell | Ask::InsertCell | Ask::MoveCell | Ask::DeleteCell => "cells",
            Ask::NoteName | Ask::Names | Ask::ForgetName => "names",
            Ask::WritePart | Ask::Part | Ask::DeletePart => "segments",
            Ask::NoteWindow | Ask::Windows | Ask::ForgetWindow => "windows",
            Ask::WriteLine | Ask::Lines | Ask::DeleteLine => "history",
        }
    }

    const fn intent(self) -> Intent {
        match self {
            Ask::Cell | Ask::Names | Ask::Part | Ask::Windows | Ask::Lines => Intent::Read,
            Ask::InsertCell | Ask::MoveCell | Ask::DeleteCell => Intent::Cas,
            Ask::NoteName
            | Ask::ForgetName
            | Ask::WritePart
            | Ask::DeletePart
            | Ask::NoteWindow
            | Ask::ForgetWindow
            | Ask::WriteLine
            | Ask::DeleteLine => Intent::Write,
        }
    }
}

/// One session with every statement prepared.
struct Client {
    session: Session,
    /// In the order of [`Ask::ALL`].
    prepared: Vec<PreparedStatement>,
}

/// The way to the nodes.
pub(super) struct Link {
    settings: Settings,
    client: RwLock<Arc<Client>>,
    /// When a new session last could not be made. Held while one is made.
    renewal: Mutex<Option<Instant>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What a request gave.
type Given = (QueryResult, PagingStateResponse);

impl Link {
    /// On a session that is there already; it becomes this link's own.
    pub(super) async fn on(session: Session, settings: Settings) -> Result<Self, StoreError> {
        let client = Client::prepare(session, &settings).await?;
        Ok(Link {
            client: RwLock::new(Arc::new(client)),
            renewal: Mutex::default(),
            settings,
        })
    }

    /// Asks for all at once: what has few rows, and writes.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        values: impl SerializeRow + Send + Sync,
    ) -> Result<QueryResult, StoreError> {
        self.send(ask, &values, None)
            .await
            .map(|(result, _)| result)
    }

    /// Asks for a page.
    pub(super) async fn page(
        &self,
        ask: Ask,
        values: impl SerializeRow + Send + Sync,
        page: PagingState,
    ) -> Result<Given, StoreError> {
        self.send(ask, &values, Some(page)).await
    }

    async fn send(
        &self,
        ask: Ask,
        values: &(impl SerializeRow + Sync),
        page: Option<PagingState>,
    ) -> Result<Given, StoreError> {
        let client = self.client();
        let mut sent = client.send(ask, values, page.clone()).await;
        // Certainly not sent: no node in reach has a connection.
        if let Err(ExecutionError::ConnectionPoolError(_)) = sent
            && let Some(client) = self.renew(&client).await
        {
            sent = client.send(ask, values, page).await;
        }
        sent.map_err(|err| errors::request(&self.place(ask.table()), ask.intent(), &err))
    }

    /// For errors: table and nodes.
    pub(super) fn place(&self, table: &str) -> String {
        let Settings {
            nodes, keyspace, ..
        } = &self.settings;
        format!("table {keyspace}.{table} at {}", nodes.join(", "))
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A client other than `lost`: one that somebody made meanwhile, or a new one. `None`: there is none to be had now.
    async fn renew(&self, lost: &Arc<Client>) -> Option<Arc<Client>> {
        let mut failed = self.renewal.lock().await;
        let client = self.client();
        if !Arc::ptr_eq(&client, lost) {
            return Some(client);
        }
        if failed.is_some_and(|at| at.elapsed() < RENEW_PAUSE) {
            return None;
        }
        let made = async { Client::prepare(session(&self.settings).await?, &self.settings).await };
        let Ok(Ok(client)) = tokio::time::timeout(self.settings.connect_timeout, made).await else {
            *failed = Some(Instant::now());
            return None;
        };
        let client = Arc::new(client);
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&client);
        *failed = None;
        Some(client)
    }
}

impl Client {
    async fn prepare(session: Session, settings: &Settings) -> Result<Self, StoreError> {
        let keyspace = settings.checked_keyspace()?;
        let failed = |err: PrepareError| errors::prepare(&settings.place(), &err);
        let mut prepared = Vec::with_capacity(Ask::ALL.len());
        for ask in Ask::ALL {
            let mut text = ask.text().replace("{}", keyspace);
            if planted(Bug::SegmentsExpire) && ask == Ask::WritePart {
                text.push_str(" USING TTL 3600");
            }
            let mut statement = session.prepare(text).await.map_err(failed)?;
            set(&mut statement, ask, settings.scope);
            prepared.push(statement);
        }
        Ok(Client { session, prepared })
    }

    async fn send(
        &self,
        ask: Ask,
        values: &(impl SerializeRow + Sync),
        page: Option<PagingState>,
    ) -> Result<Given, ExecutionError> {
        let statement = &self.prepared[ask as usize];
        match page {
            Some(page) => {
                self.session
                    .execute_single_page(statement, values, page)
                    .await
            }
            None => {
                let result = self.session.execute_unpaged(statement, values).await?;
                Ok((result, PagingStateResponse::NoMorePages))
            }
        }
    }
}

/// Consistency and retries of a statement.
fn set(statement: &mut PreparedStatement, ask: Ask, scope: Scope) {
    statement.set_consistency(scope.quorum());
    statement.set_serial_consistency(Some(scope.serial()));
    match ask.intent() {
        // Never sent twice by the driver: the first may have been done, and the second would say "lost".
        Intent::Cas => {
            statement.set_is_idempotent(false);
            statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
        }
        Intent::Read | Intent::Write => {
            statement.set_is_idempotent(true);
            statement.set_retry_policy(Some(Arc::new(DefaultRetryPolicy::new())));
        }
    }
    if ask == Ask::Cell {
        statement.set_consistency(scope.serial_read());
    }
    statement.set_page_size(match ask {
        Ask::Lines => PAGE,
        _ => 1000,
    });
}

/// A session as the settings have it; no speculation, and no retries but where a statement says so.
pub(super) async fn session(settings: &Settings) -> Result<Session, StoreError> {
    let mut policy = DefaultPolicy::builder()
        .token_aware(true)
        .permit_dc_failover(false);
    if let Some(datacenter) = &settings.datacenter {
        policy = policy.prefer_datacenter(datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .request_timeout(Some(settings.request_timeout))
        .consistency(settings.scope.quorum())
        .serial_consistency(Some(settings.scope.serial()))
        .load_balancing_policy(policy.build())
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .speculative_execution_policy(None)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .connection_timeout(settings.connect_timeout)
        .keyspaces_to_fetch([&settings.keyspace])
        .default_execution_profile_handle(profile.into_handle());
    if let Some(credentials) = &settings.credentials {
        builder = builder.user(&credentials.user, &credentials.password);
    }
    #[cfg(feature = "scylla-tls")]
    if let Some(tls) = &settings.tls {
        builder = builder.tls_context(Some(tls.client()?));
    }
    let session = builder
        .build()
        .await
        .map_err(|err| errors::session(&settings.place(), &err))?;
    if let Some(datacenter) = &settings.datacenter {
        let cluster = session.get_cluster_state();
        let nodes = cluster.get_nodes_info().iter();
        let there: BTreeSet<_> = nodes.filter_map(|node| node.datacenter.clone()).collect();
        if !there.contains(datacenter) {
            let there = there.into_iter().collect::<Vec<_>>().join(", ");
            return Err(StoreError::Unreadable {
                place: settings.place(),
                reason: format!("there is no datacenter {datacenter}, only {there}"),
                remedy: "set store.scylla.datacenter to one of them, or leave it out".to_owned(),
            });
        }
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_say_what_they_are() {
        for (at, ask) in Ask::ALL.into_iter().enumerate() {
            let text = ask.text();
            assert_eq!(at, ask as usize);
            assert!(text.contains(&format!("{{}}.{}", ask.table())), "{text}");
            let is_conditional = text.contains(" IF ");
            assert_eq!(ask.intent() == Intent::Cas, is_conditional, "{text}");
            assert_eq!(ask.intent() == Intent::Read, text.starts_with("SELECT"));
            // Cells are written by lightweight transactions alone, and by no clock of ours.
            let is_plain = ask.intent() == Intent::Write || text.contains("TIMESTAMP");
            assert!(ask.table() != "cells" || !is_plain, "{text}");
            assert!(!text.contains("TTL") && !text.contains("= null"), "{text}");
        }
    }
}
