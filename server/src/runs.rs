//! Reconciliation runs for those who ask: their rows in the store, read and moved. No reader is needed to answer.

use std::num::NonZeroU64;
use std::sync::Arc;

use onair_proto::convert::ConvertError;
use onair_proto::v1;
use onair_store::StoreError;
use onair_store::runs::{self, Asked, Origin, Run, RunError, Wish};
use tonic::Status;

use crate::clock;
use crate::refusal::Refusal;
use crate::service::Service;

impl Service {
    pub(crate) async fn ask_run(&self, request: v1::ReconcileRequest) -> Result<v1::Run, Status> {
        let asked = Asked {
            feed: self.name(&request.feed)?,
            origin: Origin::Operator,
            dry_run: request.dry_run,
            rate_max: NonZeroU64::new(request.rate_max),
        };
        let run = runs::ask(&*self.store, asked, clock::now()).await;
        Ok(run.map_err(refused)?.to_wire())
    }

    pub(crate) async fn list_runs(
        &self,
        request: v1::RunsRequest,
    ) -> Result<v1::RunsResponse, Status> {
        if !request.id.is_empty() {
            let run = self.find_run(&request.feed, &request.id).await?;
            let runs = vec![run.to_wire()];
            return Ok(v1::RunsResponse { runs });
        }
        let mut all = Vec::new();
        for feed in self.names(&request.feed)? {
            let of_feed = runs::list(&*self.store, &feed).await;
            for held in of_feed.map_err(|error| refused(error.into()))? {
                let mut run = held.value.to_wire();
                // Hundreds of runs with all their rows would be a large answer.
                if let Some(drift) = &mut run.drift {
                    drift.examples.clear();
                }
                all.push(run);
            }
        }
        Ok(v1::RunsResponse { runs: all })
    }

    pub(crate) async fn wish_of_run(&self, request: v1::MoveRunRequest) -> Result<v1::Run, Status> {
        let wish =
            Wish::from_wire(request.wish).map_err(|error: ConvertError| Refusal::NoWish {
                reason: error.to_string(),
            })?;
        let Run { feed, id, .. } = self.find_run(&request.feed, &request.id).await?;
        let run = runs::wish(&*self.store, (&feed, &id), wish, clock::now()).await;
        Ok(run.map_err(refused)?.to_wire())
    }

    /// The run of this id, of one feed or of whichever has it.
    async fn find_run(&self, feed: &str, id: &str) -> Result<Run, Status> {
        let id: Arc<str> = id.into();
        let mut found = Vec::new();
        for feed in self.names(feed)? {
            let run = runs::find(&*self.store, &feed, &id).await;
            found.extend(run.map_err(|error| refused(error.into()))?);
        }
        match found.pop() {
            None => {
                let id = id.to_string();
                Err(Refusal::NoRun { id }.into())
            }
            Some(run) if found.is_empty() => Ok(run.value),
            Some(run) => {
                let id = id.to_string();
                let feed = run.value.feed.to_string();
                Err(Refusal::TwoRuns { id, feed }.into())
            }
        }
    }

    /// A feed's name, or those of all feeds.
    fn names(&self, feed: &str) -> Result<Vec<Arc<str>>, Status> {
        match feed {
            "" => Ok(self.feeds.keys().map(Arc::clone).collect()),
            feed => Ok(vec![self.name(feed)?]),
        }
    }

    fn name(&self, feed: &str) -> Result<Arc<str>, Status> {
        self.feed(feed)?;
        Ok(feed.into())
    }
}

/// The gRPC status that says it.
pub(crate) fn refused(error: RunError) -> Status {
    let text = error.to_string();
    match error {
        RunError::TooMany { .. } => Status::resource_exhausted(text),
        RunError::Unknown { .. } => Status::not_found(text),
        RunError::NotNow { .. } => Status::failed_precondition(text),
        RunError::Store(
            StoreError::Unavailable { .. } | StoreError::Unknown { .. } | StoreError::Full { .. },
        ) => Status::unavailable(text),
        RunError::Store(_) => Status::internal(text),
    }
}
