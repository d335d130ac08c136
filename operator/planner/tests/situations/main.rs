//! Situations: the site, what happens, and what the planner decides.
//!
//! A site is described with the builders of [`objects`] and lives in a [`Site`](site::Site). A
//! situation asserts the actions of a plan, as text; where it is about a reason, a time or the counts
//! of a pool, it asserts the explanations too. Its name says what it is about.

#![allow(clippy::unwrap_used)]

mod objects;
mod site;

mod ai_jobs;
mod backfill;
mod caps;
mod energy;
mod extremes;
mod fairness;
mod filling;
mod foreign_pods;
mod gangs;
mod nodes;
mod policies;
mod rebalancing;
mod reclaim;
mod registrations;
mod windows;
