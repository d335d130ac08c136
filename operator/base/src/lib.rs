//! The words that all crates of Daylight share: [`Name`], [`Timestamp`], Go durations, and
//! errors with their causes ([`chain`]).
//!
//! This crate depends on no other crate of the workspace, has no clock and does no I/O.

mod chain;
pub mod duration;
mod timestamp;

pub use chain::chain;
pub use timestamp::Timestamp;

/// The name of a cluster-scoped object, or `namespace/name` of a namespaced one; shared by all
/// that use it.
pub type Name = std::sync::Arc<str>;
