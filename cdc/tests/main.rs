//! The reader's tests against real servers, in one binary.
#![cfg(feature = "mysql")]

mod predicate;
