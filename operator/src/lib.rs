//! Daylight gives AI jobs every GPU they request and fills the rest with registered miners.
//!
//! The path of data: watches feed the view of the cluster, its deltas feed the planner, and the
//! planner's actions go to the executor, the only module of the controller that writes.

pub mod api_requests;
pub mod auditor;
pub mod cli;
pub mod clock;
mod conditions;
pub mod connection;
pub mod controller;
pub mod entries;
pub mod failure;
mod files;
mod gpu_resources;
mod ledger_files;
pub mod logs;
pub mod metric_table;
mod process_memory;
pub mod registration_signature;
pub mod reporting;
pub mod serving;
mod shipped;
mod user_agent;
pub mod view;
mod web;
pub mod witness;
mod witness_client;
