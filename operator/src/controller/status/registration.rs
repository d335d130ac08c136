//! The status of a `Registration`, approval and usage excepted: those are others' to write.

use daylight_crds::{CONDITION_READY, Held, Registration, RegistrationState, RegistrationStatus};
use daylight_planner::explain::{Reason, RegistrationReport};
use daylight_planner::model::Approval;
use daylight_planner::time::Timestamp;

use super::conditions::{Conditions, Why};

/// What the plan says of a registration, as its status.
pub(super) fn status(
    registration: &Registration,
    report: &RegistrationReport,
    now: Timestamp,
) -> RegistrationStatus {
    let observed = registration.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = registration.metadata.generation;
    let why = Why::from(&report.state);
    let active = matches!(report.state, Reason::Active { .. });
    let ready = Conditions { observed, generation, now }.make(CONDITION_READY, active, &why);
    RegistrationStatus {
        observed_generation: generation,
        conditions: vec![ready],
        approval: None,
        state: Some(state(&report.state)),
        reason: Some(why.word),
        message: Some(why.sentence),
        usage: None,
        held: Some(Held { gpus: report.gpus, watts: report.watts }),
    }
}

/// The state that a reason puts a registration in.
pub(crate) fn state(reason: &Reason) -> RegistrationState {
    match reason {
        Reason::AwaitingApproval { .. } => RegistrationState::Pending,
        Reason::ApprovalVoided { .. } => RegistrationState::Changed,
        Reason::NotApproved { approval, .. } => match approval {
            Approval::Rejected => RegistrationState::Rejected,
            Approval::Suspended => RegistrationState::Suspended,
            Approval::Revoked => RegistrationState::Revoked,
            Approval::Voided => RegistrationState::Changed,
            _ => RegistrationState::Pending,
        },
        Reason::SignatureMissing { .. } => RegistrationState::SignatureMissing,
        Reason::SignatureInvalid { .. } => RegistrationState::SignatureInvalid,
        Reason::NotYetValid { .. } => RegistrationState::Scheduled,
        Reason::Expired { .. } => RegistrationState::Expired,
        Reason::Invalid { .. }
        | Reason::ClassUnknown { .. }
        | Reason::ClassProhibited { .. }
        | Reason::ClassNotForMining { .. }
        | Reason::PoolUnknown { .. }
        | Reason::PoolNotRegistered { .. } => RegistrationState::Invalid,
        // Approved and in time; what holds its miners back is told as the reason.
        _ => RegistrationState::Active,
    }
}
