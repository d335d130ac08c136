//! `Declaration`s: what each registration did in each period, kept up to date from the ledger.
//!
//! The figures follow from the ledger alone, so a declaration that was deleted is written again with the
//! same bytes. One that was filed never changes: entries that arrive later become a correction, which is
//! another `Declaration` of the same period.

mod figures;
mod overdue;
mod scan;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::{key, parts};
use daylight_cluster::slim::Custom;
use daylight_cluster::store::Store;
use daylight_cluster::{Change, timestamp};
use daylight_crds::{
    CONDITION_OVERDUE, CONDITION_READY, Declaration, DeclarationFiling, DeclarationSpec,
    DeclarationState, DeclarationStatus, Registration, ReportingPeriod as Length,
};
use daylight_meter::{Decision, DeclaredPeriod, ObjectKind, ObservedObject};
use serde_json::json;
use tokio::task::JoinHandle;

pub(super) use self::overdue::is_overdue;
use self::scan::{Figures, Scan, Subject};
use super::bookkeeper::Bookkeeper;
use super::cluster_writes::MANAGER;
use super::writer::JournalWriter;
use crate::api_requests::{self, ApiRequest};
use crate::conditions::{Conditions, ReasonText, time};
use crate::reporting::{PeriodLength, ReportingInterval, ReportingPeriod, tzdata_version};
use crate::view::digest;

/// Number of periods before the present one for which a declaration is begun.
const BACK: usize = 1;
/// The most by which two time zones differ, in milliseconds.
const ZONES_MS: u64 = 27 * 60 * 60 * 1000;
/// Time after a period's end in which what was filed is compared with the ledger, in milliseconds.
const COMPARED_MS: u64 = 100 * 24 * 60 * 60 * 1000;

/// All declarations of the cluster, and the figures that they should have.
pub(super) struct Declarations {
    known: Store<Custom<Declaration>>,
    directory: PathBuf,
    every: Duration,
    due: Option<Instant>,
    /// `None` while it reads the ledger.
    scan: Option<Scan>,
    reading: Option<JoinHandle<(Scan, io::Result<()>)>>,
    /// What is being read, or was read last.
    wanted: Vec<Wanted>,
    figures: BTreeMap<Subject, Figures>,
}

/// Declaration that should exist, apart from its corrections.
#[derive(Clone, Debug)]
struct Wanted {
    registration: Name,
    subject: Subject,
    spec: DeclarationSpec,
}

impl Wanted {
    fn namespace(&self) -> &str {
        parts(&self.registration).0
    }

    /// Key of the declaration, or of a correction.
    fn key(&self, correction: u32) -> Name {
        let period = self.spec.period.to_lowercase();
        match correction {
            0 => format!("{}-{period}", self.registration).into(),
            number => format!("{}-{period}-c{number}", self.registration).into(),
        }
    }
}

impl Declarations {
    /// `every` is the time between two readings of the ledger.
    pub(super) fn new(directory: PathBuf, every: Duration) -> Self {
        Self {
            known: Store::default(),
            directory,
            every,
            due: None,
            scan: Some(Scan::default()),
            reading: None,
            wanted: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// Takes in a change of a `Declaration`.
    pub(super) fn apply(&mut self, change: Change<Custom<Declaration>>) {
        let is_urgent = match &change {
            Change::Applied(declaration) => declaration.get().is_some_and(|it| is_new(it)),
            Change::Deleted(_) => true,
            _ => false,
        };
        self.known.apply(change);
        if is_urgent {
            self.due = None;
        }
    }

    /// Iterates over the declarations, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Declaration)> {
        let all = self.known.iter();
        all.filter_map(|(key, declaration)| Some((key, &**declaration.get()?)))
    }

    /// Starts to read what the ledger has since the last time, if that is due.
    pub(super) fn start(
        &mut self,
        books: &Bookkeeper,
        writer: &mut JournalWriter,
        now: Timestamp,
        instant: Instant,
    ) {
        if self.known.listed().is_none() || self.due.is_some_and(|due| instant < due) {
            return;
        }
        let Some(mut scan) = self.scan.take() else { return };
        self.due = Some(instant + self.every);
        self.wanted = wanted(books, &self.known, writer, now);
        scan.set_subjects(self.wanted.iter().map(|wanted| wanted.subject.clone()));
        let (directory, size) = (self.directory.clone(), writer.published());
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let result = scan.read(&directory, size);
            (scan, result)
        }));
    }

    /// Waits until the ledger is read; never returns while it is not being read. Cancel-safe.
    pub(super) async fn next(&mut self) {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        let read = reading.await;
        self.reading = None;
        match read {
            Ok((scan, result)) => {
                match result {
                    Ok(()) => self.figures = scan.figures(),
                    // A part of the entries would look like a correction.
                    Err(error) => {
                        tracing::warn!(%error, "Cannot read the ledger for declarations.");
                    }
                }
                self.scan = Some(scan);
            }
            Err(error) => {
                tracing::error!(%error, "Reading the ledger for declarations failed. This is a bug.");
                self.scan = Some(Scan::default());
            }
        }
    }

    /// Records filings, and returns the requests that bring declarations up to date.
    pub(super) fn writes(
        &self,
        books: &mut Bookkeeper,
        origin: &str,
        now: Timestamp,
    ) -> Vec<ApiRequest> {
        for (key, declaration) in self.iter() {
            if let Some(filed) = observed_filing(key, declaration) {
                books.meter.object(filed, now);
            }
        }
        let mut writes = Vec::new();
        for wanted in &self.wanted {
            if let Some(figures) = self.figures.get(&wanted.subject) {
                self.write(wanted, figures, books, origin, now, &mut writes);
            }
        }
        writes
    }

    fn write(
        &self,
        wanted: &Wanted,
        figures: &Figures,
        books: &Bookkeeper,
        origin: &str,
        now: Timestamp,
        writes: &mut Vec<ApiRequest>,
    ) {
        let mut correction = 0;
        loop {
            let key = wanted.key(correction);
            let known = self.known.get(&key);
            let Some(known) = known else {
                let spec = DeclarationSpec { correction, ..wanted.spec.clone() };
                let declaration = Declaration::new(parts(&key).1, spec);
                writes.push(api_requests::create_declaration(
                    wanted.namespace(),
                    &declaration,
                    MANAGER,
                ));
                return;
            };
            let (uid, Some(declaration)) = (&known.uid, known.get()) else { return };
            let filing = declaration.status.as_ref().and_then(|status| status.filing.clone());
            // One that was deleted after it was filed.
            let filing = filing.or_else(|| recorded_filing(books, &key));
            let next = wanted.key(correction + 1);
            let root = figures.extent.map(|extent| extent.root.to_base64());
            // What was filed from a ledger that this one continues is not in this one.
            let ledger = declaration.status.as_ref().and_then(|status| status.ledger.as_ref());
            let is_of_this = ledger.is_none_or(|ledger| ledger.origin == origin);
            let is_outdated = is_of_this
                && filing.as_ref().is_some_and(|it| Some(&it.root_hash) != root.as_ref());
            let is_corrected = is_outdated || self.known.get(&next).is_some();
            let status = match filing {
                // What was filed stays.
                Some(_) if is_outdated || !is_of_this => {
                    declaration.status.clone().unwrap_or_default()
                }
                filing => status(figures, filing, origin),
            };
            let status = explained(status, declaration, is_corrected.then_some(&*next), now);
            if declaration.status.as_ref() != Some(&status) {
                writes.extend(overdue::event(&key, uid, declaration, &status, now));
                writes.push(api_requests::apply_status::<Declaration>(&key, uid, MANAGER, &status));
            }
            if !is_corrected {
                return;
            }
            correction += 1;
        }
    }
}

/// Returns `true` for a declaration whose status lacks what its creation or filing brought.
fn is_new(declaration: &Declaration) -> bool {
    declaration.status.as_ref().is_none_or(|status| {
        let is_filed =
            matches!(status.state, Some(DeclarationState::Filed | DeclarationState::Superseded));
        status.state.is_none() || (status.filing.is_some() && !is_filed)
    })
}

/// Returns the declarations that should exist: of each registration that was decided about, for the
/// present period and the one before, and those that exist and are not filed, or were recently.
fn wanted(
    books: &Bookkeeper,
    known: &Store<Custom<Declaration>>,
    writer: &mut JournalWriter,
    now: Timestamp,
) -> Vec<Wanted> {
    let mut all = BTreeMap::new();
    let mut ends: BTreeMap<Name, Vec<Timestamp>> = BTreeMap::new();
    for declaration in known.values() {
        let Some(object) = declaration.get() else { continue };
        let registration = key(parts(&declaration.key).0, &object.spec.registration);
        let registration = Name::from(registration);
        ends.entry(registration.clone()).or_default().push(timestamp(&object.spec.end));
        let is_filed = object.status.as_ref().is_some_and(|status| status.filing.is_some());
        if is_filed && now.millis_since(timestamp(&object.spec.end)) > COMPARED_MS {
            continue;
        }
        let interval = ReportingInterval {
            start: timestamp(&object.spec.start),
            end: timestamp(&object.spec.end),
        };
        let subject = (writer.pseudonym_of(&registration), interval);
        let spec = object.spec.clone();
        all.insert(
            (registration.clone(), spec.period.clone()),
            Wanted { registration, subject, spec },
        );
    }
    for (key, registration) in books.cluster.registrations() {
        if registration.status.as_ref().is_none_or(|status| status.approval.is_none()) {
            continue;
        }
        let zone = crate::view::energy::zone(&books.cluster, &registration.spec);
        for (period, mut interval) in periods(registration, zone, now) {
            let label = period.to_string();
            if all.contains_key(&(key.clone(), label.clone())) {
                continue;
            }
            // It begins where the one before ended, by the calendar of another time zone perhaps.
            let is_before = |end: &&Timestamp| {
                end.millis_since(interval.start).max(interval.start.millis_since(**end)) <= ZONES_MS
            };
            if let Some(end) = ends.get(key).and_then(|ends| ends.iter().find(is_before)) {
                interval.start = *end;
            }
            let Some(spec) = spec(registration, label.clone(), zone, interval) else { continue };
            let subject = (writer.pseudonym_of(key), interval);
            all.insert((key.clone(), label), Wanted { registration: key.clone(), subject, spec });
        }
    }
    all.into_values().collect()
}

/// The present period of a registration, and the one before if the registration existed in it.
fn periods(
    registration: &Registration,
    zone: &str,
    now: Timestamp,
) -> Vec<(ReportingPeriod, ReportingInterval)> {
    let length = match registration.spec.reporting.period {
        Length::Month => PeriodLength::Month,
        Length::Quarter => PeriodLength::Quarter,
        Length::Year => PeriodLength::Year,
    };
    let created = registration.metadata.creation_timestamp.as_ref().map_or(now, timestamp);
    let present = ReportingPeriod::containing(now, length, zone).ok();
    let periods = std::iter::successors(present, |period| period.previous()).take(1 + BACK);
    let with_interval = |period: ReportingPeriod| Some((period, period.interval(zone).ok()?));
    periods.filter_map(with_interval).filter(|(_, interval)| created < interval.end).collect()
}

fn spec(
    registration: &Registration,
    period: String,
    zone: &str,
    interval: ReportingInterval,
) -> Option<DeclarationSpec> {
    let due = figures::due(interval.end, registration.spec.reporting.due_day, zone)?;
    Some(DeclarationSpec {
        registration: registration.metadata.name.clone()?,
        period,
        start: time(interval.start)?,
        end: time(interval.end)?,
        time_zone: zone.to_owned(),
        tzdata: tzdata_version().to_owned(),
        correction: 0,
        due_at: time(due)?,
        submitted_by: Some(registration.spec.submitted_by.clone()),
    })
}

/// What follows from the ledger.
fn status(figures: &Figures, filing: Option<DeclarationFiling>, origin: &str) -> DeclarationStatus {
    let totals = figures::declared(&figures.totals);
    let ledger = figures.extent.map(|extent| figures::range(origin, &figures.totals, extent));
    let state = match figures.is_final {
        true => DeclarationState::Ready,
        false => DeclarationState::Draft,
    };
    let message = match (state, figures.totals.unreported.first()) {
        (DeclarationState::Draft, Some(first)) => format!(
            "The period is not over, or {} nodes have not reported up to its end, {} among them.",
            figures.totals.unreported.len(),
            first.node
        ),
        (DeclarationState::Draft, None) => "The period is not over.".to_owned(),
        _ => "Every node has reported up to the end of the period.".to_owned(),
    };
    DeclarationStatus {
        state: Some(state),
        message: Some(message),
        gpu_time: Some(figures::gpu_time(&totals)),
        energy: Some(figures::energy_text(&totals)),
        totals: Some(totals),
        ledger,
        filing,
        ..DeclarationStatus::default()
    }
}

/// Adds what does not follow from the ledger: the states of what is filed or corrected, and the
/// conditions.
fn explained(
    mut status: DeclarationStatus,
    declaration: &Declaration,
    corrected_by: Option<&str>,
    now: Timestamp,
) -> DeclarationStatus {
    if let Some(next) = corrected_by {
        let next = parts(next).1;
        status.corrected_by = Some(next.to_owned());
        status.state = Some(DeclarationState::Superseded);
        status.message =
            Some(format!("Declaration {next} corrects it, since entries arrived later."));
    } else if let Some(filing) = &status.filing {
        status.state = Some(DeclarationState::Filed);
        status.message = Some(format!("{} filed it as {}.", filing.by, filing.reference));
    }
    let observed = declaration.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let conditions = Conditions { observed, generation: declaration.metadata.generation, now };
    let state = status.state.unwrap_or_default();
    let is_overdue = is_overdue(declaration, status.filing.as_ref(), now);
    let overdue = match (is_overdue, &status.filing) {
        (true, _) => ReasonText::new(overdue::NOT_FILED, &overdue::sentence(declaration)),
        (false, Some(_)) => ReasonText::new("Filed", "It is filed."),
        (false, None) => ReasonText::new("NotDue", "The due day is not over."),
    };
    let why = ReasonText::new(state.into(), status.message.as_deref().unwrap_or_default());
    status.conditions = vec![
        conditions.make(CONDITION_READY, state != DeclarationState::Draft, &why),
        conditions.make(CONDITION_OVERDUE, is_overdue, &overdue),
    ];
    status
}

/// What the journal records of a declaration that is filed.
fn observed_filing(declared: &Name, declaration: &Declaration) -> Option<ObservedObject> {
    let status = declaration.status.as_ref()?;
    let filing = status.filing.as_ref()?;
    let content = json!({
        "spec": declaration.spec, "totals": status.totals, "ledger": status.ledger,
    });
    Some(ObservedObject {
        object: ObjectKind::Declaration,
        name: declared.clone(),
        // The same filing of a declaration that was deleted and written again is no news.
        uid: filing.root_hash.as_str().into(),
        generation: 1,
        digest: digest::of(&content).into(),
        decision: Some(Decision {
            state: <&str>::from(DeclarationState::Filed).into(),
            by: filing.by.as_str().into(),
            at: timestamp(&filing.at),
            digest: Some(filing.root_hash.as_str().into()),
            signature: None,
            reference: Some(filing.reference.as_str().into()),
        }),
        standing: None,
        declares: Some(DeclaredPeriod {
            registration: key(parts(declared).0, &declaration.spec.registration).into(),
            period: declaration.spec.period.as_str().into(),
            correction: declaration.spec.correction,
        }),
    })
}

/// The filing of a declaration according to the journal.
fn recorded_filing(books: &Bookkeeper, key: &Name) -> Option<DeclarationFiling> {
    let recorded = books.meter.object_seen(ObjectKind::Declaration, key)?;
    let decision = recorded.decision.as_ref()?;
    Some(DeclarationFiling {
        by: decision.by.to_string(),
        at: time(decision.at)?,
        reference: decision.reference.as_deref()?.to_owned(),
        root_hash: decision.digest.as_deref()?.to_owned(),
    })
}

#[cfg(test)]
mod tests;
