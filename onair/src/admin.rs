//! Probes over HTTP, for whoever starts and restarts processes: `/live` and `/ready`.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::warn;

use crate::exit::{Exit, Failure};
use crate::roles::Local;

/// What the probes tell.
#[derive(Clone, Debug)]
pub(crate) struct Probes(Arc<RwLock<Stage>>);

#[derive(Clone, Debug)]
enum Stage {
    /// Something that the roles need is not there yet.
    Waiting(String),
    /// The roles tell themselves.
    Running(Local),
}

/// Probes are answered while this is there.
#[derive(Debug)]
pub(crate) struct Answering {
    /// Where.
    pub(crate) address: String,
    _task: JoinSet<()>,
}

/// The answer of `/ready`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// What is waited for, before the roles are started.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
    roles: Vec<Role>,
}

#[derive(Debug, Serialize)]
struct Role {
    role: String,
    ready: bool,
    state: String,
    detail: String,
}

impl Probes {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        Probes(Arc::new(RwLock::new(Stage::Waiting("starting".to_owned()))))
    }

    /// Something is not there yet.
    pub(crate) fn waiting(&self, what: &str) {
        *self.write() = Stage::Waiting(what.to_owned());
    }

    /// The roles run.
    pub(crate) fn running(&self, local: &Local) {
        *self.write() = Stage::Running(local.clone());
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Stage> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn readiness(&self) -> Readiness {
        let stage = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*stage {
            Stage::Waiting(what) => Readiness {
                ready: false,
                waiting: Some(what.clone()),
                roles: Vec::new(),
            },
            Stage::Running(local) => {
                let said = local.say();
                Readiness {
                    ready: said.iter().all(|said| said.is_ready) && !local.draining.is_cancelled(),
                    waiting: None,
                    roles: said
                        .into_iter()
                        .map(|said| Role {
                            role: said.report.role,
                            ready: said.is_ready,
                            state: said.report.state,
                            detail: said.report.detail,
                        })
                        .collect(),
                }
            }
        }
    }

    /// Answers at `address` for as long as what it returns is kept.
    pub(crate) async fn serve(&self, address: &str) -> Result<Answering, Failure> {
        let failed = |error: std::io::Error| {
            let text = format!(
                "{address}: cannot listen there: {error}; choose another address with --admin-listen, port 0 for any"
            );
            Failure::new(Exit::Failed, text)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let router = Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .with_state(self.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                warn!(error = %error, "probes are not answered any more");
            }
        });
        Ok(Answering {
            address: bound.to_string(),
            _task: task,
        })
    }
}

async fn ready(State(probes): State<Probes>) -> Response {
    let readiness = probes.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    // Strings and flags: they can be written.
    let mut body = serde_json::to_string(&readiness).unwrap_or_default();
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
