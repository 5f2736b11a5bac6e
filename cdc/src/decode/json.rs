//! Binary JSON to text.

use super::DecodeError;

pub(crate) fn text(_binary: &[u8], _out: &mut Vec<u8>) -> Result<(), DecodeError> {
    Err(DecodeError::Barrier("JSON".to_owned()))
}
