//! Objects go in, exact deltas come out.

mod jobs;
mod lifecycle;
mod nodes;
mod site;

use site::Site;
