//! `daylight controller`: decides and writes.
//!
//! | module | |
//! |---|---|
//! | [`run`] | the main loop: watch events in, plans made, changes begun |
//! | [`state`], [`timers`] | what the loop knows, and when it wakes |
//! | [`executor`] | sends the changes of plans |
//! | [`upkeep`] | changes that are due without a plan's action |
//! | [`refusals`], [`gang_refusals`] | miners and gangs whose pods are turned down |
//! | [`mirrors`] | the `ConfigMaps` that admission reads |
//! | [`observations`], [`waits`] | acting on what happened in the cluster |
//! | [`status`], [`events`], [`metrics`], [`gauges`] | reports to users |
//! | [`lease`], [`fence`] | leader election, and a fence around the leader's writes |

pub mod events;
pub mod executor;
pub mod fence;
pub mod gang_refusals;
pub mod gauges;
pub mod lease;
pub mod metrics;
pub mod mirrors;
pub mod observations;
pub mod refusals;
pub mod run;
pub mod state;
pub mod status;
pub mod timers;
pub mod upkeep;
pub mod waits;
