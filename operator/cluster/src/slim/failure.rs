//! Why the container of a miner's pod does not run, or ended.

use serde::Deserialize;

use crate::slim::meta::Moment;
use crate::well_known::record_of_work;

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailure {
    /// As one word: the agent's, or else Kubernetes'.
    pub word: Box<str>,
    /// As the rest of a sentence.
    pub sentence: Box<str>,
    /// Whether it comes from the miner itself and would be the same on any node.
    pub own: bool,
    /// Whether the container has not run at all.
    pub before_start: bool,
    /// Whether its node put the pod out, with or without a failure of the container.
    pub evicted: bool,
}

/// A container that waits.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    reason: Box<str>,
    message: Box<str>,
}

/// A container that ended.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Terminated {
    pub(super) finished_at: Option<Moment>,
    pub(super) message: Box<str>,
    reason: Box<str>,
    exit_code: i32,
}

/// What an agent says in its last words.
#[derive(Deserialize)]
struct LastWords {
    reason: Option<String>,
    #[serde(default)]
    message: String,
}

/// Reasons of the agent that are the miner's own.
const OWN: [&str; 3] = ["BadConfiguration", "LoginRefused", "WrongWallet"];

/// Reasons of the kubelet, before a container runs, that are.
const OWN_BEFORE: [&str; 3] =
    ["CreateContainerConfigError", "InvalidImageName", "ErrImageNeverPull"];

/// The longest sentence that is kept, in bytes.
const LONGEST: usize = 512;

/// Returns `true` if a text from outside can be the reason of a condition: one word.
pub fn is_reason(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl PodFailure {
    /// Why it waits, if that is not how every container begins.
    pub(super) fn of_waiting(waiting: &Waiting) -> Option<Self> {
        let Waiting { reason, message } = waiting;
        if reason.is_empty() || matches!(&**reason, "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let sentence = if message.is_empty() { reason } else { message };
        let own = OWN_BEFORE.contains(&&**reason);
        let told = Self::new(reason, &format!("its container does not start: {sentence}"), own);
        Some(Self { before_start: true, ..told })
    }

    /// Why its container does not run: its node does not come to it.
    pub fn unprepared() -> Self {
        let says = "its node makes neither its sandbox nor its volumes; the pod's events say why";
        Self::new("NotPrepared", says, false)
    }

    /// Why its node put the pod out.
    pub(super) fn of_eviction(message: &str) -> Self {
        let message = message.trim().trim_end_matches('.');
        let told = Self::new("Evicted", &format!("its node put it out: {message}"), false);
        Self { evicted: true, ..told }
    }

    /// Why it failed, if it did.
    pub(super) fn of_ended(ended: &Terminated) -> Option<Self> {
        let Terminated { reason, exit_code, .. } = ended;
        if &**reason == "OOMKilled" {
            let says = "it used more memory than spec.resources.memory and was killed";
            return Some(Self::new(reason, says, true));
        }
        if *exit_code == 0 {
            return None;
        }
        let words = record_of_work(&ended.message);
        let words = words.and_then(|line| serde_json::from_str::<LastWords>(line).ok());
        if let Some(LastWords { reason: Some(word), message }) = words {
            return Some(Self::new(&word, &message, OWN.contains(&&*word)));
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
        let told = ended(
            json!({"exitCode": 13, "reason": "Error", "message": format!("log\n{message}\n")}),
        );
        let expected = ("LoginRefused".into(), "pool p refused the login".into(), true);
        assert_eq!(told, Some(expected));
        let crashed = json!({"daylight.dev/work": "v1", "reason": "EngineCrashed", "message": "m"});
        let told = ended(json!({"exitCode": 11, "message": crashed.to_string()}));
        assert_eq!(told, Some(("EngineCrashed".into(), "m".into(), false)));
    }

    #[test]
    fn without_them_kubernetes_says_why() {
        assert_eq!(ended(json!({"exitCode": 0, "reason": "Completed"})), None);
        let (word, _, own) = ended(json!({"exitCode": 137, "reason": "OOMKilled"})).unwrap();
        assert_eq!((&*word, own), ("OOMKilled", true));
        // The record as it stood when the kernel killed it: it has no reason.
        let alive = json!({"daylight.dev/work": "v1", "reason": null, "message": ""}).to_string();
        let told = ended(json!({"exitCode": 137, "reason": "Error", "message": alive}));
        let says = "its container ended with exit code 137";
        assert_eq!(told, Some(("Error".into(), says.into(), false)));
        let odd =
            json!({"daylight.dev/work": "v1", "reason": "no word", "message": ""}).to_string();
        assert_eq!(ended(json!({"exitCode": 1, "message": odd})).unwrap().0, "Failed");
    }

    #[test]
    fn a_beginning_is_no_trouble() {
        let waiting = |reason: &str, message: &str| {
            PodFailure::of_waiting(&Waiting { reason: reason.into(), message: message.into() })
        };
        assert_eq!(waiting("ContainerCreating", ""), None);
        let pull = waiting("ImagePullBackOff", "Back-off pulling image").unwrap();
        assert_eq!((&*pull.word, pull.own), ("ImagePullBackOff", false));
        let config = waiting("CreateContainerConfigError", "secret \"w\" not found").unwrap();
        assert!(config.own && config.sentence.ends_with("secret \"w\" not found"));
    }
}
