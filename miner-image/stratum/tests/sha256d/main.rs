//! SHA-256d: published blocks, and the division of work.

mod header;
mod unit;
