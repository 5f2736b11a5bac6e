//! Steps of the source's binlog: the connection and what makes transactions of its events.

use std::collections::VecDeque;

use crate::assemble::{AssembleError, Assembler, Place};
use crate::change::Step;
use crate::source::{EventStream, SourceError};

/// A followed binlog.
pub struct Stream {
    events: Box<dyn EventStream>,
    assembler: Assembler,
    steps: VecDeque<Step>,
}

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What came over it.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
}

impl Stream {
    /// Puts the two together.
    pub fn new(events: Box<dyn EventStream>, assembler: Assembler) -> Self {
        Stream {
            events,
            assembler,
            steps: VecDeque::new(),
        }
    }

    /// The next step; waits for it. Cancel safe.
    pub async fn next(&mut self) -> Result<Step, StreamError> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(step);
            }
            let event = self.events.next().await?;
            let steps = &mut self.steps;
            self.assembler
                .push(&event, &mut |step| steps.push_back(step))?;
        }
    }

    /// The next step that can be had without waiting.
    pub fn try_next(&mut self) -> Result<Option<Step>, StreamError> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(Some(step));
            }
            let Some(event) = self.events.try_next()? else {
                return Ok(None);
            };
            let steps = &mut self.steps;
            self.assembler
                .push(&event, &mut |step| steps.push_back(step))?;
        }
    }

    /// Where the last transaction read ends in the binlog, if the server said so.
    pub fn place(&self) -> Option<&Place> {
        self.assembler.place()
    }

    /// Whether an XA transaction is prepared and neither committed nor rolled back.
    pub fn has_open_xa(&self) -> bool {
        self.assembler.open_xa().next().is_some()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("steps", &self.steps.len())
            .finish_non_exhaustive()
    }
}
