//! `daylight controller`: decides and writes.
//!
//! | module | |
//! |---|---|
//! | [`run`] | the main loop: watch events in, plans made, changes begun |
//! | [`site`] | what the loop knows |
//! | [`executor`] | the only place that writes |
//! | [`upkeep`] | what has to be done beside the plan |
//! | [`status`], [`events`], [`metrics`], [`report`] | what is told of it |
//! | [`lease`], [`fence`] | who may write, and that nobody else does |
//! | [`http`] | metrics and health |

pub mod events;
pub mod executor;
pub mod fence;
pub mod lease;
pub mod metrics;
pub mod mirrors;
pub mod report;
pub mod run;
pub mod site;
pub mod status;
pub mod upkeep;
