//! The status of an `ActivityClass`.

use daylight_base::Timestamp;
use daylight_crds::{ActivityClass, ActivityClassStatus, CONDITION_READY};

use crate::conditions::{Conditions, ReasonText};

/// Counts of the work under a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Registrations that name it.
    pub(super) registrations: u32,
    /// Registrations that are in force.
    pub(super) active: u32,
    /// GPUs that its pods hold.
    pub(super) gpus: u32,
}

/// The status of a class.
pub(super) fn status(
    class: &ActivityClass,
    members: Members,
    problem: Option<&str>,
    now: Timestamp,
) -> ActivityClassStatus {
    let observed = class.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = class.metadata.generation;
    let why = match problem {
        Some(problem) => ReasonText::new("Invalid", problem),
        None => ReasonText::new("Listed", "The class is on the positive list."),
    };
    let ready = Conditions { observed, generation, now };
    ActivityClassStatus {
        observed_generation: generation,
        conditions: vec![ready.make(CONDITION_READY, problem.is_none(), &why)],
        registrations: Some(members.registrations),
        active_registrations: Some(members.active),
        gpus: Some(members.gpus),
    }
}
