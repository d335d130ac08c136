//! Objects go in, exact deltas come out.

mod approvals;
mod energy;
mod jobs;
mod lifecycle;
mod mirror;
mod nodes;
mod order;
mod pods;
mod policy;
mod properties;
mod renewals;
mod site;

use site::Site;
