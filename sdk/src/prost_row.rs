//! Rows as messages that prost generated from the feed's schema (`onair schema FEED` prints it).

use crate::row::{RowError, RowRef};

/// Lets rows be read into messages that prost generated: `prost_row!(Room);`.
///
/// ```
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Room {
///     #[prost(uint64, optional, tag = "1")]
///     uid: Option<u64>,
///     #[prost(string, optional, tag = "2")]
///     title: Option<String>,
/// }
/// onair_sdk::prost_row!(Room);
/// # fn is_row<T: onair_sdk::FromRow>() {}
/// # is_row::<Room>();
/// ```
#[macro_export]
macro_rules! prost_row {
    ($($message:ty),+ $(,)?) => {$(
        impl $crate::FromRow for $message {
            fn from_row(row: $crate::RowRef<'_>) -> ::std::result::Result<Self, $crate::RowError> {
                $crate::read_message(row)
            }
        }
    )+};
}

/// What [`prost_row!`] calls.
#[doc(hidden)]
pub fn read_message<M: prost::Message + Default>(row: RowRef<'_>) -> Result<M, RowError> {
    // The error's text names message and field.
    M::decode(row.bytes()).map_err(|error| RowError::whole(error.to_string()))
}
