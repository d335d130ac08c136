//! Situations, told one by one: what the site looks like, what happens, and
//! what the planner decides and says.
//!
//! A site is described with the builders of [`objects`], lives in a [`Site`],
//! and is shown as text: the plan's actions, one explanation per object, and
//! when to look again. What a situation is about is in its name.

#![allow(clippy::unwrap_used)]

mod objects;
mod site;

mod ai_jobs;
mod backfill;
mod caps;
mod energy;
mod fairness;
mod filling;
mod foreign_pods;
mod gangs;
mod nodes;
mod policies;
mod reclaim;
mod registrations;
mod windows;
