//! The content of a report, computed from entries.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_ledger::Checkpoint;
use daylight_meter::{
    Bounded, Entry, Gap, Key, Method, ObjectEntry, ObjectKind, SettingsEntry, SignatureRule, Use,
    decimal,
};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::presets::Preset;
use crate::reporting::{
    LimitCount, PeriodError, PeriodTotals, ReportingInterval, ReportingPeriod, Totals,
    tzdata_version,
};

/// Form of the file.
pub(super) const FORM: &str = "daylight.dev/report/v1";

/// What a report is about.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subject {
    /// Pseudonym of the registration; `None` for the whole site.
    pub(super) registration: Option<Name>,
    /// Its name, if it is to be shown. No entry has it.
    pub(super) name: Option<String>,
    pub(super) period: ReportingPeriod,
    pub(super) time_zone: String,
    pub(super) preset: Preset,
}

/// Content of a report. All of it can be computed again from the entries that are kept with it, but
/// [`PeriodTotals::unreported`], which needs the whole ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) form: String,
    /// Version of Daylight that wrote it.
    pub(super) version: String,
    /// Name of the ledger.
    pub(super) origin: String,
    /// Number of the ledger's entries that were read, and their root hash in hexadecimal.
    #[serde(with = "decimal")]
    pub(super) size: u64,
    pub(super) root: String,
    #[serde(flatten)]
    pub(super) subject: Subject,
    /// Version of the time zone database.
    pub(super) tzdata: String,
    pub(super) totals: PeriodTotals,
    /// Figures by day or month of the period.
    pub(super) parts: Vec<Part>,
    pub(super) gaps: Vec<ListedGap>,
    /// Changes of the registration and decisions about it, the last one before the period first.
    pub(super) register: Vec<RegisterChange>,
    /// Modes of the admission policies.
    pub(super) admission: Vec<AdmissionMode>,
    /// Edits of the admission policies in the period.
    pub(super) policies: Vec<PolicyChange>,
    /// Filings of declarations of the period and their corrections, whenever they were recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) filings: Vec<RegisterChange>,
}

/// Figures of one day or month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) label: String,
    pub(super) classes: Vec<ClassSum>,
}

/// Figures of one class. Idle devices and undeclared work have a line of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClassSum {
    pub(super) class: String,
    pub(super) device_ms: Bounded,
    pub(super) millijoules: Bounded,
}

#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedGap {
    #[serde(with = "decimal")]
    pub(super) entry: u64,
    pub(super) node: Name,
    #[serde(flatten)]
    pub(super) gap: Gap,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RegisterChange {
    #[serde(with = "decimal")]
    pub(super) entry: u64,
    #[serde(flatten)]
    pub(super) change: ObjectEntry,
}

#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AdmissionMode {
    #[serde(with = "decimal")]
    pub(super) entry: u64,
    /// `None` if the installation did not state it.
    pub(super) mode: Option<Name>,
    pub(super) signature: SignatureRule,
    /// `true` while an emergency stop was in force.
    pub(super) stopped: bool,
    /// Time of the first observation, which may be before the period.
    pub(super) from: Timestamp,
    /// Time of the next change, or the period's end.
    pub(super) until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PolicyChange {
    #[serde(with = "decimal")]
    pub(super) entry: u64,
    pub(super) kind: ObjectKind,
    pub(super) name: Name,
    pub(super) digest: Name,
    pub(super) gone: bool,
    pub(super) at: Timestamp,
}

/// Computes a report from entries in order: all of a ledger, or those that a report keeps.
pub(super) struct Compiler {
    subject: Subject,
    /// Text of the period.
    label: String,
    interval: ReportingInterval,
    totals: Totals,
    parts: Vec<(String, ReportingInterval, Totals)>,
    gaps: Vec<ListedGap>,
    register: Vec<RegisterChange>,
    settings: Vec<(u64, SettingsEntry)>,
    policies: Vec<PolicyChange>,
    filings: Vec<RegisterChange>,
    kept: Kept,
}

/// Entries that prove a report, by their index.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) entries: BTreeMap<u64, Vec<u8>>,
    /// Entries of the registration since the last one that was kept. Their numbers show that none
    /// between two is missing.
    between: Vec<(u64, Vec<u8>)>,
    any_counts: bool,
}

impl Compiler {
    pub(super) fn new(subject: Subject) -> Result<Self, PeriodError> {
        let interval = subject.period.interval(&subject.time_zone)?;
        let totals = |interval| match &subject.registration {
            Some(registration) => Totals::new(registration.clone(), interval),
            None => Totals::of_all(interval),
        };
        let parts = subject.period.parts(&subject.time_zone)?;
        let parts = parts.into_iter().map(|(label, part)| (label, part, totals(part)));
        Ok(Self {
            interval,
            totals: totals(interval),
            parts: parts.collect(),
            gaps: Vec::new(),
            register: Vec::new(),
            settings: Vec::new(),
            policies: Vec::new(),
            filings: Vec::new(),
            kept: Kept::default(),
            label: subject.period.to_string(),
            subject,
        })
    }

    /// Takes the next entry. Those of other programs count for nothing.
    pub(super) fn take(&mut self, index: u64, bytes: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry>(bytes) else { return };
        let before = self.totals.limit();
        let counts = self.totals.add(index, &entry);
        let mut matters = counts || self.totals.limit() != before;
        if counts {
            self.add_to_part(index, &entry);
        }
        match &entry {
            Entry::Node(node) if counts => {
                let listed = node.gaps.iter().map(|gap| ListedGap {
                    entry: index,
                    node: node.node.clone(),
                    gap: gap.clone(),
                });
                self.gaps.extend(listed);
            }
            Entry::Object(change) if self.is_filing(change) => {
                self.filings.push(RegisterChange { entry: index, change: (**change).clone() });
                // Filed long after the period: the entries between are not needed.
                self.kept.entries.insert(index, bytes.to_vec());
            }
            Entry::Object(change) => matters |= self.object(index, change),
            Entry::Settings(settings) if settings.at < self.interval.end => {
                // Of those before the period, the last one counts.
                if settings.at <= self.interval.start
                    && let Some((before, _)) = self.settings.pop()
                {
                    self.kept.entries.remove(&before);
                }
                self.settings.push((index, (**settings).clone()));
                self.kept.entries.insert(index, bytes.to_vec());
            }
            _ => {}
        }
        let registration = self.subject.registration.as_ref();
        let is_linked = registration.is_some_and(|it| entry.registrations().contains(it));
        self.kept.take(index, bytes, counts, matters, is_linked);
    }

    fn add_to_part(&mut self, index: u64, entry: &Entry) {
        let until = match entry {
            Entry::Node(node) => node.until,
            Entry::Nodes(nodes) => {
                nodes.stretches.iter().map(|it| it.until).max().unwrap_or_default()
            }
            _ => return,
        };
        let at = self.parts.partition_point(|(_, part, _)| part.end < until);
        if let Some((_, _, totals)) = self.parts.get_mut(at) {
            totals.add(index, entry);
        }
    }

    /// Returns whether an entry is a filing of the report's registration, or of any, and period.
    fn is_filing(&self, change: &ObjectEntry) -> bool {
        change.seen.declares.as_ref().is_some_and(|declared| {
            let registration = self.subject.registration.as_ref();
            registration.is_none_or(|it| *it == declared.registration)
                && *declared.period == *self.label
        })
    }

    /// Takes a change of an object. Returns whether the report has it.
    fn object(&mut self, entry: u64, change: &ObjectEntry) -> bool {
        let (seen, at) = (&change.seen, change.at);
        if at >= self.interval.end {
            return false;
        }
        match seen.object {
            ObjectKind::Registration if self.subject.registration.as_ref() == Some(&seen.name) => {
                if at <= self.interval.start
                    && let Some(before) = self.register.pop()
                {
                    self.kept.entries.remove(&before.entry);
                }
                self.register.push(RegisterChange { entry, change: change.clone() });
                true
            }
            ObjectKind::ValidatingAdmissionPolicy
            | ObjectKind::ValidatingAdmissionPolicyBinding
                if at >= self.interval.start =>
            {
                self.policies.push(PolicyChange {
                    entry,
                    kind: seen.object,
                    name: seen.name.clone(),
                    digest: seen.digest.clone(),
                    gone: change.gone,
                    at,
                });
                true
            }
            _ => false,
        }
    }

    /// Returns the report, and the entries that prove it.
    pub(super) fn finish(mut self, checkpoint: &Checkpoint) -> (Report, BTreeMap<u64, Vec<u8>>) {
        let ends: Vec<Timestamp> = self.settings.iter().skip(1).map(|(_, it)| it.at).collect();
        let ends = ends.into_iter().chain([self.interval.end]);
        let admission = self.settings.iter().zip(ends).map(|((entry, settings), until)| {
            let seen = &settings.seen;
            AdmissionMode {
                entry: *entry,
                mode: seen.admission_mode.clone(),
                signature: seen.signature,
                stopped: seen.emergency_stop.is_some(),
                from: settings.at,
                until,
            }
        });
        let parts = self.parts.iter().map(|(label, _, totals)| {
            let classes = classes(&totals.finish());
            Part { label: label.clone(), classes }
        });
        let report = Report {
            form: FORM.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: checkpoint.origin.clone(),
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            subject: self.subject.clone(),
            tzdata: tzdata_version().to_owned(),
            totals: self.totals.finish(),
            parts: parts.collect(),
            gaps: std::mem::take(&mut self.gaps),
            register: std::mem::take(&mut self.register),
            admission: admission.collect(),
            policies: std::mem::take(&mut self.policies),
            filings: std::mem::take(&mut self.filings),
        };
        (report, self.kept.finish())
    }
}

impl Kept {
    fn take(&mut self, index: u64, bytes: &[u8], counts: bool, matters: bool, is_linked: bool) {
        if matters {
            // Of those before the first that counts, the last one proves that it is the first.
            self.entries.extend(self.between.drain(..));
            self.entries.insert(index, bytes.to_vec());
            self.any_counts |= counts;
        } else if is_linked {
            if !self.any_counts {
                self.between.clear();
            }
            self.between.push((index, bytes.to_vec()));
        }
    }

    fn finish(mut self) -> BTreeMap<u64, Vec<u8>> {
        self.entries.extend(self.between.into_iter().take(1));
        self.entries
    }
}

/// Name of a use in tables.
pub(super) fn class_of(usage: &Use) -> &str {
    match usage {
        Use::Lease(account) | Use::Pod(account) => account.class.as_deref().unwrap_or("undeclared"),
        Use::Idle => "idle",
        Use::Unavailable => "unavailable",
    }
}

/// Figures by class.
pub(super) fn classes(totals: &PeriodTotals) -> Vec<ClassSum> {
    let keys = totals.time.iter().map(|it| &it.key).chain(totals.energy.iter().map(|it| &it.key));
    let mut names: Vec<&str> = keys.map(|key| class_of(&key.usage)).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &str| {
        let is_of = |key: &Key| class_of(&key.usage) == name;
        ClassSum {
            class: name.to_owned(),
            device_ms: totals.device_ms(is_of),
            millijoules: totals.millijoules(|key, _| is_of(key)),
        }
    };
    names.into_iter().map(of).collect()
}

impl Report {
    /// Energy of everything in it that is measured, or is declared.
    pub(super) fn energy(&self, declared: bool) -> Bounded {
        self.totals.millijoules(|key, method| {
            let is_idle = matches!(key.usage, Use::Idle | Use::Unavailable);
            (method == Method::Declared) == declared && !is_idle
        })
    }

    /// Device time of everything in it that is not idle.
    pub(super) fn device_ms(&self) -> Bounded {
        self.totals.device_ms(|key| !matches!(key.usage, Use::Idle | Use::Unavailable))
    }

    pub(super) fn limit(&self) -> LimitCount {
        self.totals.limit
    }

    /// The registration as it is shown: its name, if that is to be shown, or else its pseudonym.
    pub(super) fn title(&self) -> String {
        match (&self.subject.name, &self.subject.registration) {
            (Some(name), _) => name.clone(),
            (None, Some(pseudonym)) => pseudonym.to_string(),
            (None, None) => "the whole site".to_owned(),
        }
    }
}
