//! SHA-256d: published blocks, the kernels against the reference, and the division of work.
//!
//! These are not unit tests, since the kernels would be compiled a second time for them.

mod header;
mod kernel;
mod unit;
