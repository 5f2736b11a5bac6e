//! MySQL's binary JSON: to the text that SELECT prints, and with the differences of a partial update applied.
//!
//! Format: MySQL's `json_binary.h`; text: `json_dom.cc`; differences: `json_diff.h`. Wrong: [`BadJson`].

mod binary;
mod diff;
mod number;
mod print;

use binary::View;
pub(crate) use diff::apply;

/// The bytes do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("binary JSON that does not follow the format: {0}")]
pub(crate) struct BadJson(pub(crate) &'static str);

/// MySQL allows 100 levels.
const DEPTH_MAX: usize = 101;

/// Appends the text of a whole binary document. An empty one is `null`: what a JSON column holds that was
/// NOT NULL and given nothing.
pub(crate) fn text(document: &[u8], out: &mut Vec<u8>) -> Result<(), BadJson> {
    if document.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    print::view(View::document(document)?, document.len(), out)
}
