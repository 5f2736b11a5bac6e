//! Tables as real servers describe them.
