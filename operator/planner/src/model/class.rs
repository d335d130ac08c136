//! Activity classes: the entries of the positive list.

use daylight_base::Name;
use serde::{Deserialize, Serialize};

/// One entry of the positive list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    pub name: Name,
    pub assignment: ClassAssignment,
    /// Among miners, a higher rank is served first.
    pub rank: u32,
}

/// The GPUs that a class may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassAssignment {
    /// GPUs on demand: AI.
    Guaranteed,
    /// Idle GPUs only: mining.
    IdleOnly,
    /// Nothing: the class is prohibited.
    Prohibited,
}
