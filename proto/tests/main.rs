//! What others read and write: the wire format, against a golden file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod examples;
mod wire;
mod wire_text;
