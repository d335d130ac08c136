//! Statuses, from the plan's explanations.

mod ai_job;
mod class;
mod conditions;
mod miner;
mod pool;
mod registration;
