//! `daylight controller`: decides and writes.
//!
//! | module | |
//! |---|---|
//! | [`run`] | the main loop: watch events in, plans made, changes begun |
//! | [`state`], [`timers`] | what the loop knows, and when it wakes |
//! | [`planning`] | the planner, guarded against its own defects |
//! | [`executor`] | sends the changes of plans |
//! | [`upkeep`] | changes that are due without a plan's action |
//! | [`backoff`] | the one rule for what is repeated |
//! | [`refusals`], [`gang_refusals`] | miners and gangs whose pods are turned down |
//! | [`gang_services`] | the Services of gangs, made again after they are deleted |
//! | [`mirrors`] | the `AdmissionLists` that admission reads |
//! | [`observations`], [`waits`] | acting on what happened in the cluster |
//! | [`status`], [`events`], [`metrics`], [`gauges`] | reports to users |
//! | [`lease`], [`fence`] | leader election, and a fence around the leader's writes |

pub mod backoff;
pub mod events;
pub mod executor;
pub mod fence;
pub mod gang_refusals;
pub mod gang_services;
pub mod gauges;
pub mod lapses;
pub mod lease;
pub mod metrics;
pub mod mirrors;
pub mod observations;
pub mod planning;
pub mod refusals;
pub mod run;
pub mod state;
pub mod status;
pub mod timers;
pub mod upkeep;
pub mod waits;

#[cfg(test)]
mod tests;
