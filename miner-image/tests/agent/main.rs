//! Tests of the real binary.

mod configuration;
mod life;
mod others;
mod pools;
mod run;
mod secrets;
mod soak;
