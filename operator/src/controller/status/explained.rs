//! Common parts of all statuses: a reason, its sentence, conditions, and fields that other writers
//! own.

use daylight_crds::{
    ActivityClassStatus, AiJobStatus, CONDITION_ADMITTED, GpuPoolStatus, MinerStatus,
    RegistrationStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{CONDITION_LIMIT_FORECAST, CONDITION_OVER_LIMIT};
use crate::controller::events::Notice;

/// A status that explains its object.
pub(super) trait Explained: Sized {
    /// The reason in one word.
    fn reason(&self) -> Option<&str>;
    /// The reason in a sentence.
    fn message(&self) -> Option<&str>;
    fn conditions(&self) -> &[Condition];
    /// The fields that the controller's status pass writes; the rest belongs to other field
    /// managers.
    fn own_part(&self) -> Self;
}

macro_rules! explained {
    ($type:ty, |$status:ident| $own_part:expr) => {
        impl Explained for $type {
            fn reason(&self) -> Option<&str> {
                self.reason.as_deref()
            }

            fn message(&self) -> Option<&str> {
                self.message.as_deref()
            }

            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn own_part(&self) -> Self {
                let $status = self.clone();
                $own_part
            }
        }
    };
}

explained!(GpuPoolStatus, |status| status);
// `daylight approve` writes the approval, the auditor the usage.
explained!(RegistrationStatus, |status| Self { approval: None, usage: None, ..status });
// The auditor writes what agents report.
explained!(MinerStatus, |status| Self { work: None, ..status });
// The executor writes the rest as it acts.
explained!(AiJobStatus, |status| {
    let mut conditions = status.conditions;
    conditions.retain(|condition| condition.type_ != CONDITION_ADMITTED);
    Self {
        observed_generation: status.observed_generation,
        conditions,
        workers: status.workers,
        reason: status.reason,
        message: status.message,
        estimated_start: status.estimated_start,
        backoff_until: status.backoff_until,
        ..Self::default()
    }
});

impl Explained for ActivityClassStatus {
    fn reason(&self) -> Option<&str> {
        None
    }

    fn message(&self) -> Option<&str> {
        None
    }

    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn own_part(&self) -> Self {
        self.clone()
    }
}

/// The notices that a new status is worth: its reason if that is new, and each condition about
/// limits that began or ceased to hold.
pub(super) fn notices<S: Explained>(seen: Option<&S>, wanted: &S, warning: bool) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Some(word) = wanted.reason()
        && seen.and_then(Explained::reason) != Some(word)
    {
        let sentence = wanted.message().unwrap_or_default();
        notices.push(Notice::Explained { word: word.into(), sentence: sentence.into(), warning });
    }
    let observed = seen.map_or(&[][..], Explained::conditions);
    for limit in [CONDITION_OVER_LIMIT, CONDITION_LIMIT_FORECAST] {
        notices.extend(limit_notice(limit, observed, wanted.conditions()));
    }
    notices
}

/// The notice of a condition that warns while it holds.
fn limit_notice(kind: &str, seen: &[Condition], wanted: &[Condition]) -> Option<Notice> {
    let find = |all: &[Condition]| all.iter().find(|one| one.type_ == kind).cloned();
    let (seen, wanted) = (find(seen), find(wanted)?);
    let holds = |one: &Condition| one.status == "True";
    let new = seen.as_ref().is_none_or(|seen| seen.reason != wanted.reason);
    (new && (holds(&wanted) || seen.as_ref().is_some_and(holds))).then(|| Notice::Explained {
        warning: holds(&wanted),
        word: wanted.reason,
        sentence: wanted.message,
    })
}
