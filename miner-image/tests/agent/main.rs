//! The agent's promises, held to the real binary.

mod configuration;
mod life;
mod pools;
mod run;
mod secrets;
