//! What an approver sees before `daylight approve` decides: the content that an approval is about, and what
//! changed in it since the last approval.

use std::fmt::Write as _;

use daylight_crds::{Approval, ApprovalState, Registration};
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use crate::view::digest;

/// What would be approved.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    registration: String,
    submitted_by: String,
    generation: i64,
    digest: String,
    /// `null` if nothing was approved before, or what was is not on record.
    changes: Option<Vec<FieldChange>>,
    content: Value,
}

/// A field that differs from what was last approved.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct FieldChange {
    field: String,
    approved: Value,
    now: Value,
}

impl Review {
    pub(super) fn new(registration: &Registration, content: Value, digest: String) -> Self {
        let approval = registration.status.as_ref().and_then(|status| status.approval.as_ref());
        let changes = approval.and_then(approved_content).map(|approved| {
            let mut changes = Vec::new();
            compare("", &approved, &content, &mut changes);
            changes
        });
        let namespace = registration.namespace().unwrap_or_default();
        Self {
            registration: format!("{namespace}/{}", registration.name_any()),
            submitted_by: registration.spec.submitted_by.clone(),
            generation: registration.metadata.generation.unwrap_or_default(),
            digest,
            changes,
            content,
        }
    }

    pub(super) fn text(&self) -> String {
        let Self { registration, submitted_by, generation, digest: _, changes, content } = self;
        let mut text = format!(
            "Registration {registration}, generation {generation}, submitted by {submitted_by}\n\n"
        );
        match changes.as_deref() {
            None => text.push_str("No approved content is on record to compare with.\n"),
            Some([]) => text.push_str("Nothing changed since the last approval.\n"),
            Some(changes) => {
                text.push_str("Changed since the last approval:\n");
                for FieldChange { field, approved, now } in changes {
                    let _ = writeln!(text, "  {field}: {approved} -> {now}");
                }
            }
        }
        let content = serde_saphyr::to_string(content).unwrap_or_default();
        text.push_str("\nAn approval is about this content:\n");
        for line in content.lines() {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// Returns what was last approved. Content with another digest than the approval names is not what was
/// approved.
fn approved_content(approval: &Approval) -> Option<Value> {
    let content: Value = serde_json::from_str(approval.approved_content.as_deref()?).ok()?;
    let is_bound = approval.state == ApprovalState::Approved;
    let fits = approval.spec_digest.as_deref() == Some(&*digest::of(&content));
    (fits || !is_bound).then_some(content)
}

/// Adds the fields in which two values differ. Lists are compared as a whole.
fn compare(field: &str, approved: &Value, now: &Value, changes: &mut Vec<FieldChange>) {
    if approved == now {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (approved, now) else {
        let change =
            FieldChange { field: field.to_owned(), approved: approved.clone(), now: now.clone() };
        changes.push(change);
        return;
    };
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let path = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
        let of = |object: &serde_json::Map<String, Value>| {
            object.get(key).cloned().unwrap_or(Value::Null)
        };
        compare(&path, &of(before), &of(after), changes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registration(approval: &Value) -> Registration {
        serde_json::from_value(json!({
            "metadata": {"namespace": "team-a", "name": "night", "generation": 3},
            "spec": {
                "operator": {"name": "Tenant"}, "submittedBy": "bob", "activityClass": "pow-mining",
                "site": "site-1", "pools": ["a"], "validFrom": "2026-01-01T00:00:00Z",
                "validUntil": "2027-01-01T00:00:00Z", "limits": {"gpus": 4000},
            },
            "status": {"approval": approval},
        }))
        .unwrap()
    }

    fn content(gpus: u32) -> Value {
        json!({"registration": {"spec": {"limits": {"gpus": gpus}, "pools": ["a"]}}})
    }

    fn approval(content: &Value, digest: &str, state: &str) -> Value {
        json!({
            "state": state, "by": "ann", "at": "2026-01-01T00:00:00Z", "message": "because",
            "specDigest": digest, "approvedContent": content.to_string(),
        })
    }

    fn changes(approval: &Value) -> Option<Vec<FieldChange>> {
        Review::new(&registration(approval), content(4000), "sha256:9f".into()).changes
    }

    #[test]
    fn a_review_names_what_changed_since_the_approval() {
        let digest = digest::of(&content(4));
        let approved = approval(&content(4), &digest, "Approved");
        let change = FieldChange {
            field: "registration.spec.limits.gpus".into(),
            approved: json!(4),
            now: json!(4000),
        };
        assert_eq!(changes(&approved), Some(vec![change]));
        let review = Review::new(&registration(&approved), content(4000), "sha256:9f".into());
        assert_eq!(
            review.text(),
            "Registration team-a/night, generation 3, submitted by bob\n\n\
             Changed since the last approval:\n  registration.spec.limits.gpus: 4 -> 4000\n\n\
             An approval is about this content:\n  registration:\n    spec:\n      limits:\n        \
             gpus: 4000\n      pools:\n      - a\n"
        );
    }

    #[test]
    fn content_that_was_not_approved_is_not_compared_with() {
        assert_eq!(changes(&Value::Null), None);
        let forged = approval(&content(4000), &digest::of(&content(4)), "Approved");
        assert_eq!(changes(&forged), None);
        // A later decision keeps what was approved before.
        let suspended = approval(&content(4000), "", "Suspended");
        assert_eq!(changes(&suspended), Some(vec![]));
    }
}
