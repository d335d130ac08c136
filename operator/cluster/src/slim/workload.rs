//! Kueue's Workloads.

use daylight_base::Name;
use serde::{Deserialize, Deserializer};

use crate::slim::meta::{Condition, Meta};
use crate::store::stored;

/// A Workload of Kueue, reduced to what it states about a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// Resource version; 0 if it is not a number.
    pub version: u64,
    /// The Job that it is for.
    pub job: Option<JobOfWorkload>,
}

/// The Job of a Workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOfWorkload {
    /// `namespace/name`.
    pub key: Name,
    pub uid: Box<str>,
    /// The sentence in which Kueue states why it is not admitted.
    pub pending: Option<Box<str>>,
}

stored!(Workload, key);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status<'a> {
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Raw { metadata, status } = Raw::deserialize(deserializer)?;
        // Quota comes first; what remains after it, such as an admission check, is in `Admitted`.
        let pending = ["QuotaReserved", "Admitted"].into_iter().find_map(|kind| {
            let condition = status.conditions.iter().find(|one| one.kind == kind)?;
            (condition.status == "False" && !condition.message.is_empty())
                .then(|| sentence(&condition.message))
        });
        let job = metadata.controller().filter(|owner| owner.kind == "Job").map(|owner| {
            let key = crate::names::key(&metadata.namespace, &owner.name).into();
            JobOfWorkload { key, uid: (&*owner.uid).into(), pending }
        });
        Ok(Self {
            key: metadata.key().into(),
            uid: (&*metadata.uid).into(),
            version: metadata.version(),
            job,
        })
    }
}

/// The longest text that is kept: Kueue lists every flavor that it tried.
const LONGEST: usize = 400;

/// Returns a message as a sentence that ends.
fn sentence(message: &str) -> Box<str> {
    let message = message.trim();
    if message.len() > LONGEST {
        return format!("{}…", &message[..message.floor_char_boundary(LONGEST)]).into();
    }
    let end = if message.ends_with('.') { "" } else { "." };
    format!("{message}{end}").into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn workload(conditions: &Value) -> Workload {
        let text = json!({
            "metadata": {
                "name": "job-llm-1a2b3", "namespace": "ml", "uid": "w", "resourceVersion": "7",
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": "llm", "uid": "j",
                    "controller": true,
                }],
            },
            "status": {"conditions": conditions},
        });
        serde_json::from_str(&text.to_string()).unwrap()
    }

    fn pending(conditions: &Value) -> Option<Box<str>> {
        workload(conditions).job.unwrap().pending
    }

    #[test]
    fn a_workload_states_why_its_job_waits() {
        let reserved = |status: &str, message: &str| json!({"type": "QuotaReserved", "status": status, "message": message});
        assert_eq!(&*workload(&json!([])).job.unwrap().key, "ml/llm");
        assert_eq!(pending(&json!([])), None);
        let waits = pending(&json!([reserved("False", "insufficient unused quota")]));
        assert_eq!(waits.as_deref(), Some("insufficient unused quota."));
        let checked = json!({"type": "Admitted", "status": "False", "message": "A check waits."});
        assert_eq!(
            pending(&json!([reserved("True", "reserved"), checked])).as_deref(),
            Some("A check waits.")
        );
        let long = pending(&json!([reserved("False", &"ä".repeat(500))])).unwrap();
        assert!(long.len() <= LONGEST + '…'.len_utf8() && long.ends_with('…'));
    }
}
