//! OnAir's wire and store formats. The .proto files are the contract; generated types stay at the rim, and
//! [`convert`] turns them into the model's.

pub mod convert;
pub mod entries;
pub mod schema_text;

/// Generated from `proto/onair/v1`.
#[expect(clippy::all, reason = "generated code")]
#[cfg_attr(
    any(feature = "client", feature = "server"),
    expect(clippy::allow_attributes_without_reason, reason = "generated code")
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/onair.v1.rs"));
}

/// The compiled .proto files, for reflection and generic tools.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/onair.descriptor"));
