//! Common parts of all statuses: a reason, its sentence, conditions, and fields that other writers
//! own.

use daylight_crds::{
    ActivityClassStatus, AiJobStatus, CONDITION_ADMITTED, CONDITION_METERED, GpuPoolStatus,
    MinerStatus, RegistrationStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{CONDITION_LAPSED, CONDITION_LIMIT_FORECAST, CONDITION_OVER_LIMIT};
use crate::controller::events::Notice;

/// A status that explains its object.
pub(super) trait Explained: Sized {
    /// The reason in one word.
    fn reason(&self) -> Option<&str>;
    /// The reason in a sentence.
    fn message(&self) -> Option<&str>;
    /// The sentence of the Event about a new reason, which is written once and not corrected.
    fn event(&self) -> Option<&str> {
        self.message()
    }
    fn conditions(&self) -> &[Condition];
    /// The fields that the controller's status pass writes; the rest belongs to other field
    /// managers.
    fn own_part(&self) -> Self;
}

macro_rules! explained {
    ($type:ty, |$status:ident| $own_part:expr $(, $event:item)?) => {
        impl Explained for $type {
            fn reason(&self) -> Option<&str> {
                self.reason.as_deref()
            }

            fn message(&self) -> Option<&str> {
                self.message.as_deref()
            }

            $($event)?

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

explained!(
    GpuPoolStatus,
    // The auditor writes whether the pool is metered.
    |status| Self { conditions: without(status.conditions, CONDITION_METERED), ..status },
    // The number of GPUs that would mine is 0 when the pool is new, and changes with every pod.
    fn event(&self) -> Option<&str> {
        match self.reason() {
            Some("Observing") => Some(
                "The policy is Observe, so nothing is changed. `daylight status` shows how many GPUs \
                 would mine with Fill.",
            ),
            _ => self.message(),
        }
    }
);
// `daylight approve` writes the approval, the auditor the usage.
explained!(RegistrationStatus, |status| Self { approval: None, usage: None, ..status });
// The auditor writes what agents report.
explained!(MinerStatus, |status| Self { work: None, ..status });
// The executor writes the rest as it acts.
explained!(AiJobStatus, |status| Self {
    observed_generation: status.observed_generation,
    conditions: without(status.conditions, CONDITION_ADMITTED),
    workers: status.workers,
    reason: status.reason,
    message: status.message,
    estimated_start: status.estimated_start,
    backoff_until: status.backoff_until,
    ..Self::default()
});

/// The conditions without one that another field manager writes.
fn without(mut conditions: Vec<Condition>, type_: &str) -> Vec<Condition> {
    conditions.retain(|condition| condition.type_ != type_);
    conditions
}

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

/// The form in which a new reason becomes an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announce {
    Normal,
    Warning,
    /// Another Event has announced it.
    Already,
}

impl Announce {
    pub(super) fn warning_if(warning: bool) -> Self {
        if warning { Self::Warning } else { Self::Normal }
    }
}

/// The notices that a new status is worth: its reason if that is new, and each condition about
/// limits and lapses that began or ceased to hold.
pub(super) fn notices<S: Explained>(
    seen: Option<&S>,
    wanted: &S,
    announce: Announce,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Some(word) = wanted.reason()
        && announce != Announce::Already
        && seen.and_then(Explained::reason) != Some(word)
    {
        let sentence = wanted.event().unwrap_or_default().into();
        let warning = announce == Announce::Warning;
        notices.push(Notice::Explained { word: word.into(), sentence, warning });
    }
    let observed = seen.map_or(&[][..], Explained::conditions);
    for limit in [CONDITION_OVER_LIMIT, CONDITION_LIMIT_FORECAST, CONDITION_LAPSED] {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(reason: &str, message: &str) -> GpuPoolStatus {
        GpuPoolStatus {
            reason: Some(reason.into()),
            message: Some(message.into()),
            ..GpuPoolStatus::default()
        }
    }

    fn sentences(notices: &[Notice]) -> Vec<&str> {
        let sentences = notices.iter().filter_map(|notice| match notice {
            Notice::Explained { sentence, .. } => Some(&**sentence),
            _ => None,
        });
        sentences.collect()
    }

    #[test]
    fn the_event_of_a_pool_that_observes_has_no_number() {
        let observing = pool("Observing", "With Fill, miners would start on 0 GPUs now.");
        let notices = notices(None, &observing, Announce::Normal);
        let [sentence] = sentences(&notices)[..] else { panic!("{notices:?}") };
        assert!(sentence.starts_with("The policy is Observe"), "{sentence}");
        assert!(!sentence.chars().any(|character| character.is_ascii_digit()), "{sentence}");
    }

    #[test]
    fn a_reason_is_announced_once() {
        let filling = pool("Filling", "Idle GPUs go to registered miners.");
        assert_eq!(
            sentences(&notices(None, &filling, Announce::Warning)),
            ["Idle GPUs go to registered miners."]
        );
        assert!(notices(Some(&filling), &filling, Announce::Warning).is_empty());
        assert!(notices(None, &filling, Announce::Already).is_empty());
    }

    #[test]
    fn what_other_managers_write_is_no_difference() {
        let condition = |type_: &str| {
            json!({
                "type": type_, "status": "True", "reason": "Why", "message": "Because.",
                "lastTransitionTime": "2026-11-24T06:00:00Z",
            })
        };
        let pool = |conditions| {
            serde_json::from_value::<GpuPoolStatus>(json!({"nodes": 4, "conditions": conditions}))
        };
        let seen = pool(json!([condition("Ready"), condition(CONDITION_METERED)])).unwrap();
        assert_eq!(seen.own_part(), pool(json!([condition("Ready")])).unwrap());
        let job =
            |conditions| serde_json::from_value::<AiJobStatus>(json!({"conditions": conditions}));
        let seen = job(json!([condition("Ready"), condition(CONDITION_ADMITTED)])).unwrap();
        assert_eq!(seen.own_part(), job(json!([condition("Ready")])).unwrap());
    }
}
