//! Tests of the real binary.

mod configuration;
mod engines;
mod life;
mod pools;
mod run;
mod secrets;
mod soak;
