//! Conditions, as `metav1.Condition` defines them.

use daylight_base::Timestamp;
use daylight_planner::explain::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The time as Kubernetes writes it, in whole seconds.
pub(crate) fn time(at: Timestamp) -> Option<Time> {
    jiff::Timestamp::from_second(at.0.div_euclid(1000)).ok().map(Time)
}

/// A reason as one word and as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReasonText {
    pub(crate) word: String,
    pub(crate) sentence: String,
}

impl From<&Reason> for ReasonText {
    fn from(reason: &Reason) -> Self {
        Self::new(reason.code(), &reason.to_string())
    }
}

/// The most characters of a sentence in a status.
const SENTENCE: usize = 1024;

impl ReasonText {
    pub(crate) fn new(word: &str, sentence: &str) -> Self {
        let sentence = match sentence.char_indices().nth(SENTENCE) {
            Some((end, _)) => &sentence[..end],
            None => sentence,
        };
        Self { word: word.into(), sentence: sentence.into() }
    }
}

/// The data from which the conditions of one object are made.
pub(crate) struct Conditions<'a> {
    /// The conditions that the object has.
    pub(crate) observed: &'a [Condition],
    /// The generation of the object that they describe.
    pub(crate) generation: Option<i64>,
    pub(crate) now: Timestamp,
}

impl Conditions<'_> {
    /// Makes a condition. Its transition time stays while its status does.
    pub(crate) fn make(&self, kind: &str, holds: bool, why: &ReasonText) -> Condition {
        let status = if holds { "True" } else { "False" };
        let last_transition_time = self
            .observed
            .iter()
            .find(|known| known.type_ == kind && known.status == status)
            .map(|known| known.last_transition_time.clone())
            .or_else(|| time(self.now))
            .unwrap_or(Time(jiff::Timestamp::UNIX_EPOCH));
        Condition {
            type_: kind.into(),
            status: status.into(),
            reason: why.word.clone(),
            message: why.sentence.clone(),
            observed_generation: self.generation,
            last_transition_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_stays_while_the_status_does() {
        let at = |observed: &[Condition], seconds, holds| {
            Conditions { observed, generation: Some(1), now: Timestamp::from_seconds(seconds) }
                .make("Ready", holds, &ReasonText::new("Because", "Because."))
        };
        let first = at(&[], 100, true);
        let second = at(std::slice::from_ref(&first), 200, true);
        assert_eq!(second, first);
        let third = at(&[second], 300, false);
        assert_eq!(third.last_transition_time, time(Timestamp::from_seconds(300)).unwrap());
    }

    #[test]
    fn a_sentence_that_is_too_long_is_cut_between_characters() {
        let why = ReasonText::new("Long", &"é".repeat(2000));
        assert_eq!(why.sentence.chars().count(), SENTENCE);
    }
}
