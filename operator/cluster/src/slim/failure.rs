//! Failures of the container of a miner's pod.

use std::time::Duration;

use daylight_agent_api::{LastWords, Outcome, find_record};
use serde::Deserialize;

use crate::slim::meta::Moment;

/// A failure of a miner's pod: its container does not run, or ended, or its node evicted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailure {
    /// Reason in one word: the agent's, or else that of Kubernetes.
    pub word: Box<str>,
    /// Reason as the rest of a sentence.
    pub sentence: Box<str>,
    /// `true` if the cause is the miner itself, so that it would fail on any node.
    pub own: bool,
    /// `true` if the container has not run at all.
    pub before_start: bool,
    /// `true` if its node evicted the pod, with or without a failure of the container.
    pub evicted: bool,
}

/// `state.waiting` of a container.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    reason: Box<str>,
    message: Box<str>,
}

/// `state.terminated` of a container.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Terminated {
    pub(super) finished_at: Option<Moment>,
    pub(super) message: Box<str>,
    reason: Box<str>,
    exit_code: i32,
}

/// Reasons of the kubelet before a container runs whose cause is the miner itself.
const OWN_BEFORE: [&str; 3] =
    ["CreateContainerConfigError", "InvalidImageName", "ErrImageNeverPull"];

/// Length at which a sentence is cut off, in bytes.
const LONGEST: usize = 512;

/// Returns `true` if a text from another component can be the reason of a condition: one word.
pub fn is_reason(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl PodFailure {
    /// Reads the failure from a waiting container; `None` if it only waits as every container does
    /// at first.
    pub(super) fn of_waiting(waiting: &Waiting) -> Option<Self> {
        let Waiting { reason, message } = waiting;
        if reason.is_empty() || matches!(&**reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let sentence = if message.is_empty() { reason } else { message };
        let own = OWN_BEFORE.contains(&&**reason);
        let failure = Self::new(reason, &format!("its container cannot start: {sentence}"), own);
        Some(Self { before_start: true, ..failure })
    }

    /// Creates the failure of a pod that its node has not prepared in time.
    pub fn unprepared() -> Self {
        let sentence = "its node created neither its sandbox nor its volumes; see the kubelet's log on the node";
        Self::new("NotPrepared", sentence, false)
    }

    /// Creates the failure of a pod that kube-scheduler could not bind to the node it was granted on.
    pub fn unschedulable() -> Self {
        let sentence =
            "kube-scheduler found no room for it on its node within a minute; see its Events";
        Self::new("Unschedulable", sentence, false)
    }

    /// Creates the failure of a pod that another container keeps running after the miner's has ended.
    pub fn kept_running() -> Self {
        let sentence = "its container ended, but a container that a webhook added runs on; keep the webhook from miners' pods, or let it add a restartable init container";
        Self::new("SidecarRunsOn", sentence, true)
    }

    /// Creates the failure of a pod that ended without an error after a short time.
    pub fn ended_early(ran: Duration) -> Self {
        let sentence = format!(
            "its container ended after {} s without an error, but a miner must run until it is stopped",
            ran.as_secs()
        );
        Self::new("EndedEarly", &sentence, true)
    }

    /// Creates the failure of a pod that its node evicted, with the kubelet's message.
    pub(super) fn of_eviction(message: &str) -> Self {
        let message = message.trim().trim_end_matches('.');
        let failure =
            Self::new("Evicted", &format!("it was evicted by its node: {message}"), false);
        Self { evicted: true, ..failure }
    }

    /// Reads the failure from a container that ended; `None` if it did not fail.
    pub(super) fn of_ended(ended: &Terminated) -> Option<Self> {
        let Terminated { reason, exit_code, .. } = ended;
        if &**reason == "OOMKilled" {
            let sentence = "it used more memory than spec.resources.memory and was killed";
            return Some(Self::new(reason, sentence, true));
        }
        if *exit_code == 0 {
            return None;
        }
        let words = find_record(&ended.message)
            .and_then(|line| serde_json::from_str::<LastWords>(line).ok());
        if let Some(LastWords { reason: Some(word), message }) = words {
            let own = word.parse().is_ok_and(Outcome::is_same_on_any_node);
            return Some(Self::new(&word, &message, own));
        }
        let word = if reason.is_empty() { "Error" } else { reason };
        Some(Self::new(word, &format!("its container ended with exit code {exit_code}"), false))
    }

    fn new(word: &str, sentence: &str, own: bool) -> Self {
        let word = if is_reason(word) { word } else { "Failed" };
        let end = sentence.floor_char_boundary(LONGEST);
        Self {
            word: word.into(),
            sentence: sentence[..end].into(),
            own,
            before_start: false,
            evicted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ended(value: Value) -> Option<(String, String, bool)> {
        let ended: Terminated = serde_json::from_value(value).unwrap();
        PodFailure::of_ended(&ended).map(|it| (it.word.into(), it.sentence.into(), it.own))
    }

    #[test]
    fn an_agents_last_words_count_before_kubernetes() {
        let message = json!({"daylight.dev/work": "v1", "reason": "LoginRefused", "message": "pool p refused the login"});
        let refused = ended(
            json!({"exitCode": 13, "reason": "Error", "message": format!("log\n{message}\n")}),
        );
        let expected = ("LoginRefused".into(), "pool p refused the login".into(), true);
        assert_eq!(refused, Some(expected));
        let message = json!({"daylight.dev/work": "v1", "reason": "EngineCrashed", "message": "m"});
        let crashed = ended(json!({"exitCode": 11, "message": message.to_string()}));
        assert_eq!(crashed, Some(("EngineCrashed".into(), "m".into(), false)));
    }

    #[test]
    fn without_them_the_reason_of_kubernetes_counts() {
        assert_eq!(ended(json!({"exitCode": 0, "reason": "Completed"})), None);
        let (word, _, own) = ended(json!({"exitCode": 137, "reason": "OOMKilled"})).unwrap();
        assert_eq!((&*word, own), ("OOMKilled", true));
        // The record of an agent that was killed by the kernel: it has no reason.
        let alive = json!({"daylight.dev/work": "v1", "reason": null, "message": ""}).to_string();
        let killed = ended(json!({"exitCode": 137, "reason": "Error", "message": alive}));
        let sentence = "its container ended with exit code 137";
        assert_eq!(killed, Some(("Error".into(), sentence.into(), false)));
        let odd =
            json!({"daylight.dev/work": "v1", "reason": "no word", "message": ""}).to_string();
        assert_eq!(ended(json!({"exitCode": 1, "message": odd})).unwrap().0, "Failed");
    }

    #[test]
    fn a_container_that_is_being_created_has_not_failed() {
        let waiting = |reason: &str, message: &str| {
            PodFailure::of_waiting(&Waiting { reason: reason.into(), message: message.into() })
        };
        assert_eq!(waiting("ContainerCreating", ""), None);
        let pull = waiting("ImagePullBackOff", "Back-off pulling image").unwrap();
        assert_eq!((&*pull.word, pull.own), ("ImagePullBackOff", false));
        let config = waiting("CreateContainerConfigError", "secret \"w\" not found").unwrap();
        assert!(config.own && config.sentence.ends_with("secret \"w\" not found"));
    }

    #[test]
    fn the_manual_says_what_to_do_about_each_failure() {
        let manual = include_str!("../../../../docs/miner.md");
        let failures = [
            PodFailure::unprepared(),
            PodFailure::unschedulable(),
            PodFailure::kept_running(),
            PodFailure::ended_early(Duration::from_secs(1)),
            PodFailure::of_eviction(""),
            PodFailure::new("no word", "", false),
        ];
        let words = failures.iter().map(|failure| &*failure.word);
        for word in words.chain(OWN_BEFORE).chain(["Error", "OOMKilled"]) {
            assert!(manual.contains(&format!("`{word}`")), "docs/miner.md lacks {word}");
        }
    }
}
