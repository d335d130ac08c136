//! The agent's promises, held to the real binary.

mod configuration;
mod life;
mod run;
mod secrets;
