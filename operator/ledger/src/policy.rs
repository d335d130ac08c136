//! Which logs are trusted, and how many witnesses must have cosigned, by C2SP `tlog-policy`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::decimal;
use crate::key::{KeyError, VerifierKey};
use crate::note::{Note, NoteError, Verified};

/// Most lines of each kind in a policy.
const MAX_LINES: usize = 1000;

/// Policy: which checkpoints count. It is parsed from a policy file.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// Each has only members that are defined before it.
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// Log that a policy trusts.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLog {
    /// Public key; its name is the log's origin.
    pub key: VerifierKey,
    /// Address of the log.
    pub url: Option<String>,
}

/// Witness that a policy knows.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyWitness {
    /// Name in the policy.
    pub name: String,
    /// Public key.
    pub key: VerifierKey,
    /// Address of the witness: what `add-checkpoint` is appended to.
    pub url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    /// Members that must have cosigned, at least 1.
    threshold: usize,
    members: Vec<Member>,
}

/// Index of a witness or of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Error of a text that is not a policy, with the number of its line from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line has other words than its first one allows.
    #[error("line {line} of the policy is not of the form `{form}`")]
    Form { line: usize, form: &'static str },
    /// A line begins with another word.
    #[error(
        "line {line} of the policy begins with {word:?} instead of log, witness, group or quorum"
    )]
    Word { line: usize, word: String },
    /// A character is not allowed.
    #[error("line {0} of the policy has a control character")]
    Control(usize),
    /// A key cannot be read.
    #[error("line {line} of the policy: {error}")]
    Key { line: usize, error: KeyError },
    /// A key is of a type that logs or witnesses do not have.
    #[error("line {0} of the policy has a key of a log for a witness: it must be one that cosigns")]
    Cosigner(usize),
    /// A key is there twice.
    #[error("line {0} of the policy has a key that another line has: each must be there once")]
    Duplicate(usize),
    /// A name is defined twice, or `none`.
    #[error("line {line} of the policy defines {name:?}, which is defined before")]
    Defined { line: usize, name: String },
    /// A name is not defined before.
    #[error("line {line} of the policy names {name:?}, which no line before defines")]
    Undefined { line: usize, name: String },
    /// A name is a member of two groups, or twice of one.
    #[error("line {line} of the policy makes {name:?} a member for the second time")]
    Member { line: usize, name: String },
    /// A threshold is 0 or exceeds the members.
    #[error("line {line} of the policy requires {threshold:?} of {members} members")]
    Threshold { line: usize, threshold: String, members: usize },
    /// The quorum is missing.
    #[error("the policy has no line `quorum NAME`; write `quorum none` if no witness is required")]
    NoQuorum,
    /// The quorum is there twice.
    #[error("line {0} of the policy is a second quorum")]
    SecondQuorum(usize),
    /// It has too many lines.
    #[error("the policy has more than {MAX_LINES} logs, witnesses or groups")]
    TooLong,
}

/// Error of a checkpoint that the policy does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyViolation {
    /// No log of the policy signed it, or a known key's signature is wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What was signed is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log that signed is not the one that the checkpoint names.
    #[error("the checkpoint is of {origin}, but no log of that name in the policy signed it")]
    Origin { origin: String },
    /// Witnesses are missing.
    #[error(
        "too few witnesses cosigned the checkpoint of {origin}: {required} must have, and {} did",
        if cosigned.is_empty() { "none".into() } else { cosigned.join(", ") }
    )]
    Quorum { origin: String, required: String, cosigned: Vec<String> },
}

/// Checkpoint that a policy accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted<'a> {
    /// Checkpoint that was signed.
    pub checkpoint: Checkpoint,
    /// Log that signed it.
    pub log: &'a PolicyLog,
    /// Witnesses that cosigned it, with the time of each in seconds since 1970.
    pub witnesses: Vec<(&'a PolicyWitness, u64)>,
}

impl Policy {
    /// Trusts one log, and requires no witness.
    pub fn of_log(key: VerifierKey) -> Self {
        let logs = vec![PolicyLog { key, url: None }];
        Self { logs, witnesses: Vec::new(), groups: Vec::new(), quorum: None }
    }

    /// Trusts another log, too.
    #[must_use]
    pub fn with_log(mut self, key: VerifierKey) -> Self {
        if !self.logs.iter().any(|log| log.key.is_same_key(&key)) {
            self.logs.push(PolicyLog { key, url: None });
        }
        self
    }

    /// Returns the policy that trusts the same logs, and knows and requires no witness.
    #[must_use]
    pub fn without_witnesses(&self) -> Self {
        Self { logs: self.logs.clone(), ..Self::default() }
    }

    /// Logs that it trusts.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// Witnesses that it knows.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Verifies that a log of the policy signed the note, that enough witnesses cosigned it, and that
    /// no signature of a known key is wrong. Signatures of others are ignored.
    ///
    /// # Errors
    ///
    /// One of them is not so, or the note is not a checkpoint.
    pub fn verify<'a>(&'a self, note: &'a Note) -> Result<Accepted<'a>, PolicyViolation> {
        let logs = self.logs.iter().map(|log| &log.key);
        let witnesses = self.witnesses.iter().map(|witness| &witness.key);
        let keys: Vec<&VerifierKey> = logs.chain(witnesses).collect();
        let verified = note.verify_all(&keys)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let made = |key: &VerifierKey| verified.iter().find(|verified| verified.key == key);
        let log = self
            .logs
            .iter()
            .find(|log| log.key.name() == checkpoint.origin && made(&log.key).is_some())
            .ok_or_else(|| PolicyViolation::Origin { origin: checkpoint.origin.clone() })?;
        let cosigned: Vec<Option<u64>> = self
            .witnesses
            .iter()
            .map(|witness| made(&witness.key).and_then(Verified::time))
            .collect();
        let witnesses =
            || self.witnesses.iter().zip(&cosigned).filter_map(|(w, time)| Some((w, (*time)?)));
        if let Some(quorum) = self.quorum
            && !self.has_cosigned(quorum, &cosigned)
        {
            return Err(PolicyViolation::Quorum {
                origin: checkpoint.origin,
                required: self.describe(quorum),
                cosigned: witnesses().map(|(witness, _)| witness.name.clone()).collect(),
            });
        }
        Ok(Accepted { log, witnesses: witnesses().collect(), checkpoint })
    }

    fn has_cosigned(&self, member: Member, cosigned: &[Option<u64>]) -> bool {
        match member {
            Member::Witness(at) => cosigned[at].is_some(),
            Member::Group(at) => {
                let Group { name: _, threshold, members } = &self.groups[at];
                let have = members.iter().filter(|member| self.has_cosigned(**member, cosigned));
                have.count() >= *threshold
            }
        }
    }

    /// Describes what a member requires, such as `2 of (w1, w2, 1 of (w3, w4))`.
    fn describe(&self, member: Member) -> String {
        match member {
            Member::Witness(at) => self.witnesses[at].name.clone(),
            Member::Group(at) => {
                let Group { name: _, threshold, members } = &self.groups[at];
                let members: Vec<String> =
                    members.iter().map(|member| self.describe(*member)).collect();
                format!("{threshold} of ({})", members.join(", "))
            }
        }
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut parser = Parser::default();
        for (at, line) in text.split('\n').enumerate() {
            parser.line(at + 1, line)?;
        }
        let Parser { policy, quorum, .. } = parser;
        if quorum { Ok(policy) } else { Err(PolicyError::NoQuorum) }
    }
}

#[derive(Default)]
struct Parser<'a> {
    policy: Policy,
    names: HashMap<&'a str, Member>,
    /// Members of groups.
    members: HashSet<Member>,
    /// Whether there was a quorum.
    quorum: bool,
}

impl Default for Policy {
    /// Policy without a log, which accepts nothing.
    fn default() -> Self {
        Self { logs: Vec::new(), witnesses: Vec::new(), groups: Vec::new(), quorum: None }
    }
}

impl<'a> Parser<'a> {
    fn line(&mut self, number: usize, line: &'a str) -> Result<(), PolicyError> {
        if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(PolicyError::Control(number));
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let form = |form| PolicyError::Form { line: number, form };
        match words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] => self.log(number, key, None),
            ["log", key, url] => self.log(number, key, Some(url)),
            ["log", ..] => Err(form("log KEY [URL]")),
            ["witness", name, key] => self.witness(number, name, key, None),
            ["witness", name, key, url] => self.witness(number, name, key, Some(url)),
            ["witness", ..] => Err(form("witness NAME KEY [URL]")),
            ["group", name, threshold, ref members @ ..] if !members.is_empty() => {
                self.group(number, name, threshold, members)
            }
            ["group", ..] => Err(form("group NAME any|all|NUMBER NAME...")),
            ["quorum", name] => self.quorum(number, name),
            ["quorum", ..] => Err(form("quorum NAME")),
            [word, ..] => {
                Err(PolicyError::Word { line: number, word: word.chars().take(100).collect() })
            }
        }
    }

    fn log(&mut self, line: usize, key: &str, url: Option<&str>) -> Result<(), PolicyError> {
        let key = key.parse().map_err(|error| PolicyError::Key { line, error })?;
        let logs = &mut self.policy.logs;
        if logs.iter().any(|log| log.key.is_same_key(&key)) {
            return Err(PolicyError::Duplicate(line));
        }
        logs.push(PolicyLog { key, url: url.map(str::to_owned) });
        limit(logs)
    }

    fn witness(
        &mut self,
        line: usize,
        name: &'a str,
        key: &str,
        url: Option<&str>,
    ) -> Result<(), PolicyError> {
        let key: VerifierKey = key.parse().map_err(|error| PolicyError::Key { line, error })?;
        if !key.is_cosigner() {
            return Err(PolicyError::Cosigner(line));
        }
        let witnesses = &self.policy.witnesses;
        if witnesses.iter().any(|witness| witness.key.is_same_key(&key)) {
            return Err(PolicyError::Duplicate(line));
        }
        let at = witnesses.len();
        self.define(line, name, Member::Witness(at))?;
        let (name, url) = (name.to_owned(), url.map(str::to_owned));
        self.policy.witnesses.push(PolicyWitness { name, key, url });
        limit(&self.policy.witnesses)
    }

    fn group(
        &mut self,
        line: usize,
        name: &'a str,
        threshold: &str,
        names: &[&str],
    ) -> Result<(), PolicyError> {
        let required = match threshold {
            "any" => Some(1),
            "all" => Some(names.len()),
            number => decimal::parse(number).and_then(|number| usize::try_from(number).ok()),
        };
        let required = required.filter(|required| (1..=names.len()).contains(required));
        let required = required.ok_or_else(|| PolicyError::Threshold {
            line,
            threshold: threshold.chars().take(100).collect(),
            members: names.len(),
        })?;
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let member = self.defined(line, name)?;
            if !self.members.insert(member) {
                return Err(PolicyError::Member { line, name: (*name).to_owned() });
            }
            members.push(member);
        }
        self.define(line, name, Member::Group(self.policy.groups.len()))?;
        self.policy.groups.push(Group { name: name.to_owned(), threshold: required, members });
        limit(&self.policy.groups)
    }

    fn quorum(&mut self, line: usize, name: &str) -> Result<(), PolicyError> {
        if std::mem::replace(&mut self.quorum, true) {
            return Err(PolicyError::SecondQuorum(line));
        }
        self.policy.quorum = match name {
            NONE => None,
            name => Some(self.defined(line, name)?),
        };
        Ok(())
    }

    fn define(&mut self, line: usize, name: &'a str, member: Member) -> Result<(), PolicyError> {
        match self.names.entry(name) {
            Entry::Vacant(entry) if name != NONE => {
                entry.insert(member);
                Ok(())
            }
            _ => Err(PolicyError::Defined { line, name: name.to_owned() }),
        }
    }

    fn defined(&self, line: usize, name: &str) -> Result<Member, PolicyError> {
        let undefined = || PolicyError::Undefined { line, name: name.to_owned() };
        self.names.get(name).copied().ok_or_else(undefined)
    }
}

/// Quorum that requires no witness.
const NONE: &str = "none";

fn limit<T>(lines: &[T]) -> Result<(), PolicyError> {
    if lines.len() > MAX_LINES { Err(PolicyError::TooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::key::{CosigningKey, SigningKey};

    fn log(seed: u8) -> SigningKey {
        SigningKey::from_seed("example.com/log", [seed; 32]).unwrap()
    }

    fn witness(seed: u8) -> CosigningKey {
        CosigningKey::ed25519(&format!("example.com/w{seed}"), [seed; 32]).unwrap()
    }

    /// The example of the specification, with the witnesses 1, 2, 3 and 11, 12, 13.
    fn example() -> String {
        let key = |seed| witness(seed).verifier();
        format!(
            "# Comment\nlog {}\n\n\
             witness X1 {}\nwitness\tX2 {} https://w.example/\nwitness X3 {}\n\
             group X-witnesses 2 X1 X2 X3\n\
             \twitness Y1 {}\nwitness Y2 {}\nwitness Y3 {}\n  # Comment\n\
             group Y-witnesses any Y1 Y2 Y3\n\
             group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y",
            log(1).verifier(),
            key(1),
            key(2),
            key(3),
            key(11),
            key(12),
            key(13),
        )
    }

    fn note(log: &SigningKey, witnesses: &[u8]) -> Note {
        let checkpoint = Checkpoint::new("example.com/log", 3, Hash::leaf(b"x"));
        let mut note = checkpoint.sign(&[log]).unwrap();
        let cosign = |seed: &u8| witness(*seed).cosign(&checkpoint, u64::from(*seed)).unwrap();
        note.add(witnesses.iter().map(cosign)).unwrap();
        note
    }

    #[test]
    fn a_quorum_of_groups_is_required() {
        let policy: Policy = example().parse().unwrap();
        assert_eq!(policy.logs()[0].key, log(1).verifier());
        assert_eq!(policy.witnesses()[1].url.as_deref(), Some("https://w.example/"));
        for (witnesses, is_accepted) in [
            (&[1, 2, 11][..], true),
            (&[1, 2, 3, 11, 12, 13], true),
            (&[3, 2, 99, 13], true),
            (&[1, 2], false),
            (&[1, 11], false),
            (&[11, 12, 13], false),
            (&[], false),
        ] {
            let note = note(&log(1), witnesses);
            assert_eq!(policy.verify(&note).is_ok(), is_accepted, "{witnesses:?}");
        }
        let accepted = note(&log(1), &[1, 2, 11]);
        let accepted = policy.verify(&accepted).unwrap();
        let times: Vec<_> =
            accepted.witnesses.iter().map(|(w, at)| (w.name.as_str(), *at)).collect();
        assert_eq!(times, [("X1", 1), ("X2", 2), ("Y1", 11)]);
        assert_eq!(
            policy.verify(&note(&log(1), &[1, 11])).unwrap_err().to_string(),
            "too few witnesses cosigned the checkpoint of example.com/log: \
             2 of (2 of (X1, X2, X3), 1 of (Y1, Y2, Y3)) must have, and X1, Y1 did"
        );
    }

    #[test]
    fn only_logs_of_the_policy_count_for_their_own_checkpoints() {
        let policy = Policy::of_log(log(1).verifier());
        assert!(policy.verify(&note(&log(1), &[])).is_ok());
        assert!(matches!(
            policy.verify(&note(&log(2), &[1])),
            Err(PolicyViolation::Note(NoteError::Unknown(_)))
        ));
        let other = SigningKey::from_seed("example.com/other", [3; 32]).unwrap();
        let text = format!("log {}\nlog {}\nquorum none\n", log(1).verifier(), other.verifier());
        let policy: Policy = text.parse().unwrap();
        assert_eq!(
            policy.verify(&note(&other, &[])),
            Err(PolicyViolation::Origin { origin: "example.com/log".into() })
        );
        // A wrong signature of a known key makes the whole note wrong.
        let both = Checkpoint::new("example.com/log", 3, Hash::leaf(b"x"));
        let mut both = both.sign(&[&log(1)]).unwrap();
        both.add([other.sign("something else\n")]).unwrap();
        assert_eq!(
            policy.verify(&both),
            Err(PolicyViolation::Note(NoteError::Wrong("example.com/other".into())))
        );
        assert!("quorum none".parse::<Policy>().unwrap().verify(&both).is_err());
    }

    #[test]
    fn what_is_not_a_policy_is_refused() {
        let wrong = |from: &str, to: &str| example().replacen(from, to, 1).parse::<Policy>();
        let error = |from: &str, to: &str| wrong(from, to).unwrap_err().to_string();
        assert_eq!(
            error("quorum X-and-Y", ""),
            "the policy has no line `quorum NAME`; write `quorum none` if no witness is required"
        );
        assert_eq!(
            error("quorum X-and-Y", "quorum Z"),
            "line 14 of the policy names \"Z\", which no line before defines"
        );
        assert_eq!(
            error("quorum X-and-Y", "quorum none\nquorum none"),
            "line 15 of the policy is a second quorum"
        );
        assert_eq!(
            error("2 X1 X2 X3", "4 X1 X2 X3"),
            "line 7 of the policy requires \"4\" of 3 members"
        );
        assert!(wrong("2 X1 X2 X3", "0 X1 X2 X3").is_err());
        assert!(wrong("2 X1 X2 X3", "02 X1 X2 X3").is_err());
        assert!(wrong("2 X1 X2 X3", "some X1 X2 X3").is_err());
        assert!(wrong("2 X1 X2 X3", "2").is_err());
        assert_eq!(
            error("2 X1 X2 X3", "2 X1 X2 X1"),
            "line 7 of the policy makes \"X1\" a member for the second time"
        );
        assert!(wrong("any Y1", "any X1 Y1").is_err());
        assert!(wrong("2 X1 X2 X3", "2 X1 X2 Y1").is_err());
        assert!(wrong("witness\tX2", "witness X1").is_err());
        assert!(wrong("witness\tX2", "witness none").is_err());
        assert_eq!(
            error("# Comment", "hello"),
            "line 1 of the policy begins with \"hello\" instead of log, witness, group or quorum"
        );
        assert_eq!(
            error("# Comment", "# Com\rment"),
            "line 1 of the policy has a control character"
        );
        assert_eq!(
            error("# Comment", "log"),
            "line 1 of the policy is not of the form `log KEY [URL]`"
        );
        let key = log(1).verifier().to_string();
        assert!(
            error("# Comment", &format!("witness Z {key}"))
                .starts_with("line 1 of the policy has a key of a log")
        );
        assert!(
            error("# Comment", &format!("log {key}"))
                .starts_with("line 2 of the policy has a key that another")
        );
        // The same key, with another name.
        let renamed = CosigningKey::ed25519("example.com/renamed", [1; 32]).unwrap().verifier();
        assert!(
            error("# Comment", &format!("witness Z {renamed}"))
                .starts_with("line 4 of the policy has a key that another")
        );
    }
}
