//! The auditor's metrics. Every name begins with `daylight_`.
//!
//! Totals are those of the books, which are restored from the journal: they continue after a
//! restart where they were before it.

use std::collections::BTreeMap;

use daylight_agent_api::Evidence;
use daylight_agent_api::metrics::ACCEPTED;
use daylight_base::{Name, Timestamp};
use daylight_cluster::names::parts;
use daylight_crds::labels::UNDECLARED;
use daylight_crds::{Declaration, DeclarationSpec, DeclarationState};
use daylight_meter::{Account, Books, Entry, Key, Method, Usage, Use};
use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use rustc_hash::FxHashMap;
use strum::{IntoStaticStr, VariantArray as _};

use super::admission::{AdmissionMode, AdmissionState};
use super::bookkeeper::{LateNode, UnreadEnergy};
use super::cosigning::Round;
use super::declarations;
use crate::metric_table::{Register, Row, signed};
use crate::serving::ScrapeLock;
use crate::view::Assigned;

/// Outcome of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum ScrapeOutcome {
    Read,
    Failed,
}

/// Source from which the devices of a node are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum NodeSource {
    /// An exporter names them.
    Exporter,
    /// The node offers a number of them.
    Count,
}

/// Label of shares that earned nothing.
const REJECTED: &str = "rejected";

/// All metrics of the auditor.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// To be held while gauges are cleared and set again.
    pub whole: ScrapeLock,
    rows: Vec<Row>,
    assigned_seconds: CounterVec,
    device_seconds: CounterVec,
    undeclared_seconds: CounterVec,
    operating_pod_seconds: CounterVec,
    operating_error: GaugeVec,
    requested_cpu: CounterVec,
    requested_memory: CounterVec,
    claimed_storage: CounterVec,
    pod_energy: CounterVec,
    energy: CounterVec,
    unexplained: CounterVec,
    unregistered: IntGaugeVec,
    unlisted: IntGaugeVec,
    shares: IntCounterVec,
    hashes: IntCounterVec,
    unseen_edits: IntCounterVec,
    energy_error: GaugeVec,
    time_error: GaugeVec,
    gaps: CounterVec,
    overcommitted: CounterVec,
    pub books_closed: IntGauge,
    pub log_size: IntGauge,
    pub log_signed: IntGauge,
    pub log_kept: IntGauge,
    log_cosigned: IntGaugeVec,
    /// In seconds since the epoch.
    log_cosigned_at: IntGaugeVec,
    witness_size: IntGaugeVec,
    /// In seconds since the epoch.
    witness_at: IntGaugeVec,
    declarations: IntGaugeVec,
    overdue: IntGaugeVec,
    pub unwritten: IntGauge,
    /// In seconds since the epoch.
    pub booked_until: IntGauge,
    entries: IntCounterVec,
    scrapes: IntCounterVec,
    nodes: IntGaugeVec,
    unread: IntGaugeVec,
    read_until: IntGaugeVec,
    registration_read_until: IntGaugeVec,
    node_read_until: IntGaugeVec,
    peak_watts: IntGaugeVec,
    operating: CounterVec,
    agents_not_ready: IntGaugeVec,
    journal_free: IntGauge,
    admission_mode: IntGaugeVec,
    admission_policies: IntGaugeVec,
    pub resident_memory: IntGauge,
}

/// Labels of a lease.
const OF_LEASE: [&str; 4] = ["pool", "class", "registration", "namespace"];

impl Metrics {
    /// Creates and registers all metrics, at zero.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let mut r = Register::new(&registry);
        let with_method = [&OF_LEASE[..], &["method"]].concat();
        let with_side = [&OF_LEASE[..], &["side"]].concat();
        let build_info = labelled(
            &mut r,
            IntGaugeVec::new,
            "build_info",
            "Version of the process; the value is 1.",
            &["version"],
        )?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            assigned_seconds: labelled(
                &mut r,
                CounterVec::new,
                "assigned_gpu_seconds_total",
                "Device time that leases held.",
                &OF_LEASE,
            )?,
            device_seconds: labelled(
                &mut r,
                CounterVec::new,
                "device_seconds_total",
                "Device time by use: lease, idle or unavailable. The sum is devices \
                 times seconds.",
                &["pool", "use"],
            )?,
            undeclared_seconds: labelled(
                &mut r,
                CounterVec::new,
                "undeclared_gpu_seconds_total",
                "Device time held by pods without an activity class.",
                &["pool", "namespace"],
            )?,
            operating_pod_seconds: labelled(
                &mut r,
                CounterVec::new,
                "operating_pod_seconds_total",
                "Time that pods on record ran, with and without GPUs.",
                &OF_LEASE,
            )?,
            operating_error: labelled(
                &mut r,
                GaugeVec::new,
                "operating_error_bound_seconds",
                "Largest distance of the true operating time from the booked time: \
                 side=\"below\" or \"above\".",
                &with_side,
            )?,
            requested_cpu: labelled(
                &mut r,
                CounterVec::new,
                "requested_cpu_seconds_total",
                "CPUs that pods on record requested, times the time that they ran.",
                &OF_LEASE,
            )?,
            requested_memory: labelled(
                &mut r,
                CounterVec::new,
                "requested_memory_byte_seconds_total",
                "Bytes of memory that pods on record requested, times the time that they ran.",
                &OF_LEASE,
            )?,
            claimed_storage: labelled(
                &mut r,
                CounterVec::new,
                "claimed_storage_byte_seconds_total",
                "Bytes of the volume claims of pods on record, times the time that they ran.",
                &OF_LEASE,
            )?,
            pod_energy: labelled(
                &mut r,
                CounterVec::new,
                "pod_energy_joules_total",
                "Energy of pods on record that hold no GPU.",
                &with_method,
            )?,
            energy: labelled(
                &mut r,
                CounterVec::new,
                "gpu_energy_joules_total",
                "Energy of devices while leases held them.",
                &with_method,
            )?,
            unexplained: labelled(
                &mut r,
                CounterVec::new,
                "unheld_energy_joules_total",
                "Energy of devices that no lease held: kind=\"idle\" up to what an idle \
                 device draws, kind=\"unexplained\" above it.",
                &["pool", "kind"],
            )?,
            unregistered: labelled(
                &mut r,
                IntGaugeVec::new,
                "unregistered_gpus",
                "GPUs held by pods whose registration is missing or not in force, as \
                 verified by the auditor itself. Alert if it lasts longer than a drain.",
                &OF_LEASE,
            )?,
            unlisted: labelled(
                &mut r,
                IntGaugeVec::new,
                "unlisted_gpus",
                "GPUs held by pods whose class does not exist or is prohibited. Alert if there \
                 are any.",
                &["pool", "class", "namespace"],
            )?,
            shares: labelled(
                &mut r,
                IntCounterVec::new,
                "miner_shares_total",
                "Shares that miners reported: result=\"accepted\" or \"rejected\", \
                 evidence=\"seen\" by a trusted agent or \"claimed\".",
                &["namespace", "registration", "result", "evidence"],
            )?,
            hashes: labelled(
                &mut r,
                IntCounterVec::new,
                "miner_hashes_total",
                "Hashes that miners reported.",
                &["namespace", "registration", "evidence"],
            )?,
            unseen_edits: labelled(
                &mut r,
                IntCounterVec::new,
                "unseen_edits_total",
                "Edits of a spec that happened unobserved, as jumps of its generation \
                 show; found by this process.",
                &["kind"],
            )?,
            energy_error: labelled(
                &mut r,
                GaugeVec::new,
                "energy_error_bound_joules",
                "Largest distance of the true energy from the booked energy: \
                 side=\"below\" or \"above\".",
                &with_side,
            )?,
            time_error: labelled(
                &mut r,
                GaugeVec::new,
                "time_error_bound_seconds",
                "Largest distance of the true device time from the booked time: \
                 side=\"below\" or \"above\".",
                &with_side,
            )?,
            gaps: labelled(
                &mut r,
                CounterVec::new,
                "meter_gap_seconds_total",
                "Device time without a measurement that can be believed.",
                &["pool"],
            )?,
            overcommitted: labelled(
                &mut r,
                CounterVec::new,
                "overcommitted_gpu_seconds_total",
                "GPU time held in excess of the devices of a node, as with \
                 time-slicing.",
                &["pool"],
            )?,
            books_closed: r.add(IntGauge::with_opts(opts(
                "books_closed",
                "1 if time and energy of every pool add up exactly, else 0.",
            )))?,
            log_size: r
                .add(IntGauge::with_opts(opts("audit_log_size", "Entries in the journal.")))?,
            log_signed: r.add(IntGauge::with_opts(opts(
                "audit_log_signed_size",
                "Entries in the journal that the signed checkpoint vouches for.",
            )))?,
            log_kept: r.add(IntGauge::with_opts(opts(
                "audit_log_kept_size",
                "Entries in the journal that the checkpoint outside of its volume vouches for.",
            )))?,
            log_cosigned: labelled(
                &mut r,
                IntGaugeVec::new,
                "audit_log_cosigned_size",
                "Entries in the journal that the last checkpoint with enough cosignatures vouches for.",
                &[],
            )?,
            log_cosigned_at: labelled(
                &mut r,
                IntGaugeVec::new,
                "audit_log_cosigned_timestamp_seconds",
                "Time at which enough witnesses cosigned a checkpoint; 0 before the first.",
                &[],
            )?,
            witness_size: labelled(
                &mut r,
                IntGaugeVec::new,
                "audit_log_witness_size",
                "Entries in the last checkpoint that this witness cosigned.",
                &["witness"],
            )?,
            witness_at: labelled(
                &mut r,
                IntGaugeVec::new,
                "audit_log_witness_timestamp_seconds",
                "Time at which this witness cosigned a checkpoint.",
                &["witness"],
            )?,
            declarations: labelled(
                &mut r,
                IntGaugeVec::new,
                "declarations",
                "Declarations, by state.",
                &["state"],
            )?,
            overdue: labelled(
                &mut r,
                IntGaugeVec::new,
                "declaration_overdue",
                "1 for a declaration that is not filed though its due day is over.",
                &["namespace", "registration", "period"],
            )?,
            unwritten: r.add(IntGauge::with_opts(opts(
                "audit_log_unwritten_bytes",
                "Bytes of entries that wait to be written to the journal.",
            )))?,
            booked_until: r.add(IntGauge::with_opts(opts(
                "booked_until_timestamp_seconds",
                "Time up to which all device time is booked.",
            )))?,
            entries: labelled(
                &mut r,
                IntCounterVec::new,
                "audit_log_entries_total",
                "Entries that this process added to the journal, by kind.",
                &["kind"],
            )?,
            scrapes: labelled(
                &mut r,
                IntCounterVec::new,
                "exporter_scrapes_total",
                "Scrapes of exporters: outcome=\"read\" or \"failed\".",
                &["outcome"],
            )?,
            nodes: labelled(
                &mut r,
                IntGaugeVec::new,
                "metered_nodes",
                "Nodes in the books: by=\"exporter\" if one names their devices, else \
                 by=\"count\".",
                &["by"],
            )?,
            unread: labelled(
                &mut r,
                IntGaugeVec::new,
                "unread_gpus",
                "GPUs whose energy is not read though an exporter is set. The pool's condition \
                 Metered names a node and the cause.",
                &["pool"],
            )?,
            read_until: labelled(
                &mut r,
                IntGaugeVec::new,
                "energy_metered_until_timestamp_seconds",
                "Time up to which the energy of all devices is booked; absent while one was \
                 never read.",
                &["pool"],
            )?,
            registration_read_until: labelled(
                &mut r,
                IntGaugeVec::new,
                "registration_metered_until_timestamp_seconds",
                "Time up to which the energy of the leases under a registration is booked; \
                 absent while one of their devices was never read.",
                &["namespace", "registration"],
            )?,
            node_read_until: labelled(
                &mut r,
                IntGaugeVec::new,
                "node_energy_metered_until_timestamp_seconds",
                "Time up to which the energy of a node's devices is booked, or at which the first \
                 that was never read joined; only of nodes whose readings are late.",
                &["pool", "node"],
            )?,
            peak_watts: labelled(
                &mut r,
                IntGaugeVec::new,
                "registration_peak_watts",
                "Highest mean power of one replica between two readings, since the registration was \
                 first metered.",
                &["namespace", "registration"],
            )?,
            operating: labelled(
                &mut r,
                CounterVec::new,
                "registration_operating_seconds_total",
                "Time in which at least one lease ran.",
                &["namespace", "registration"],
            )?,
            agents_not_ready: labelled(
                &mut r,
                IntGaugeVec::new,
                "miner_agents_not_ready",
                "Replicas of miners whose agent reports that nothing is earned, by reason.",
                &["namespace", "registration", "reason"],
            )?,
            journal_free: r.add(IntGauge::with_opts(opts(
                "journal_free_bytes",
                "Bytes that are free on the volume of the journal.",
            )))?,
            admission_mode: labelled(
                &mut r,
                IntGaugeVec::new,
                "admission_mode",
                "1 for the mode in force of the rules about work other than miners'.",
                &["mode"],
            )?,
            admission_policies: labelled(
                &mut r,
                IntGaugeVec::new,
                "admission_policies",
                "Daylight's admission policies and bindings: state=\"expected\" of this version, \
                 \"found\", or \"altered\".",
                &["state"],
            )?,
            resident_memory: r.add(IntGauge::with_opts(opts(
                "resident_memory_bytes",
                "Bytes of this process that are in memory.",
            )))?,
            whole: ScrapeLock::default(),
            rows: r.rows(),
            registry,
        })
    }

    /// The registry of all metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Name, type and labels of each metric.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Counts an entry that goes to the journal.
    pub fn count_entry(&self, entry: &Entry) {
        if let Entry::Object(object) = entry {
            let kind = object.seen.object.into_str();
            self.unseen_edits.with_label_values(&[kind]).inc_by(object.unseen);
        }
        self.entries.with_label_values(&[entry_kind(entry)]).inc();
    }

    /// Counts a scrape of an exporter.
    pub fn count_scrape(&self, outcome: ScrapeOutcome) {
        self.scrapes.with_label_values(&[outcome.into_str()]).inc();
    }

    /// Sets the number of nodes whose devices are known from a source.
    pub fn set_nodes(&self, source: NodeSource, nodes: usize) {
        self.nodes.with_label_values(&[source.into_str()]).set(signed(nodes));
    }

    /// Sets what witnesses cosigned.
    pub(super) fn set_round(&self, round: &Round) {
        let Round { size, by, is_enough, at } = round;
        let (size, at) = (signed(*size), at.0.div_euclid(1000));
        for witness in by {
            self.witness_size.with_label_values(&[witness]).set(size);
            self.witness_at.with_label_values(&[witness]).set(at);
        }
        if *is_enough {
            let none: [&str; 0] = [];
            self.log_cosigned.with_label_values(&none).set(size);
            self.log_cosigned_at.with_label_values(&none).set(at);
        }
    }

    /// Sets the number of declarations in each state, and those that are overdue.
    pub(super) fn set_declarations<'a>(
        &self,
        declarations: impl Iterator<Item = (&'a Name, &'a Declaration)>,
        now: Timestamp,
    ) {
        self.declarations.reset();
        self.overdue.reset();
        for state in DeclarationState::VARIANTS {
            self.declarations.with_label_values(&[<&str>::from(state)]).set(0);
        }
        for (key, declaration) in declarations {
            let status = declaration.status.as_ref();
            let state = status.and_then(|status| status.state).unwrap_or_default();
            self.declarations.with_label_values(&[<&str>::from(state)]).inc();
            let filing = status.and_then(|status| status.filing.as_ref());
            if declarations::is_overdue(declaration, filing, now) {
                let (namespace, _) = parts(key);
                let DeclarationSpec { registration, period, .. } = &declaration.spec;
                self.overdue.with_label_values(&[namespace, registration, period]).set(1);
            }
        }
    }

    /// Sets the GPUs that are held without a registration in force.
    pub fn set_unregistered(&self, held: FxHashMap<Assigned, u64>) {
        self.unregistered.reset();
        for (held, gpus) in held {
            let labels = [
                &*held.pool,
                of_class(held.class.as_ref()),
                of_registration(held.registration.as_ref()),
                &*held.namespace,
            ];
            self.unregistered.with_label_values(&labels).set(signed(gpus));
        }
    }

    /// Sets what is not read of each pool's energy.
    pub(super) fn set_unread(&self, pools: &BTreeMap<Name, UnreadEnergy>) {
        self.unread.reset();
        self.read_until.reset();
        for (pool, unread) in pools {
            self.unread.with_label_values(&[pool]).set(signed(unread.devices));
            if let Some(until) = unread.read_until {
                self.read_until.with_label_values(&[pool]).set(until.0.div_euclid(1000));
            }
        }
    }

    /// Sets the time up to which the energy of each registration is booked.
    pub(super) fn set_registrations_read(&self, usages: &BTreeMap<Name, Usage>) {
        self.registration_read_until.reset();
        for (key, usage) in usages {
            if let Some(until) = usage.metered_until {
                let (namespace, name) = daylight_cluster::names::parts(key);
                let gauge = self.registration_read_until.with_label_values(&[namespace, name]);
                gauge.set(until.0.div_euclid(1000));
            }
        }
    }

    /// Sets the time up to which energy is known of nodes whose readings are late.
    pub(super) fn set_late_nodes(&self, late: &[LateNode]) {
        self.node_read_until.reset();
        for LateNode { pool, node, until } in late {
            let gauge = self.node_read_until.with_label_values(&[&**pool, &**node]);
            gauge.set(until.0.div_euclid(1000));
        }
    }

    /// Sets the highest power of each registration's replicas.
    pub(super) fn set_peaks(&self, usages: &BTreeMap<Name, Usage>) {
        self.peak_watts.reset();
        for (key, usage) in usages.iter().filter(|(_, usage)| usage.peak_watts > 0) {
            let (namespace, name) = daylight_cluster::names::parts(key);
            self.peak_watts.with_label_values(&[namespace, name]).set(signed(usage.peak_watts));
        }
    }

    /// Sets the replicas whose agents report a reason for which nothing is earned, by the registration.
    pub(super) fn set_agents_not_ready(&self, replicas: &BTreeMap<(Name, String), u32>) {
        self.agents_not_ready.reset();
        for ((registration, reason), replicas) in replicas {
            let (namespace, name) = daylight_cluster::names::parts(registration);
            let labels = [namespace, name, reason];
            self.agents_not_ready.with_label_values(&labels).set((*replicas).into());
        }
    }

    /// Sets the free space of the journal's volume.
    pub(super) fn set_journal_free(&self, bytes: u64) {
        self.journal_free.set(signed(bytes));
    }

    /// Sets the state of Daylight's admission policies.
    pub(super) fn set_admission(&self, state: &AdmissionState) {
        let AdmissionState { expected, found, altered, mode } = *state;
        for (label, count) in [("expected", expected), ("found", found), ("altered", altered)] {
            self.admission_policies.with_label_values(&[label]).set(signed(count));
        }
        for one in AdmissionMode::VARIANTS {
            let is_in_force = i64::from(mode == Some(*one));
            self.admission_mode.with_label_values(&[<&str>::from(*one)]).set(is_in_force);
        }
    }

    /// Sets the GPUs that are held under a class that is not on the positive list.
    pub fn set_unlisted(&self, held: FxHashMap<Assigned, u64>) {
        self.unlisted.reset();
        for (held, gpus) in held {
            let labels = [&*held.pool, of_class(held.class.as_ref()), &*held.namespace];
            // A sum: registrations are not among the labels.
            self.unlisted.with_label_values(&labels).add(signed(gpus));
        }
    }

    /// Raises the totals to those of the books.
    pub fn set_books(&self, books: &Books) {
        let mut uses: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (key, ms) in &books.time {
            let pool = of_pool(key.pool.as_ref());
            let seconds = ms.value as f64 / 1000.0;
            *uses.entry((pool, key.usage.into_str())).or_default() += ms.value;
            if let Use::Lease(account) = &key.usage {
                let labels = of_lease(key);
                set(&self.assigned_seconds, &labels, seconds);
                set_bounds(&self.time_error, labels, ms.below, ms.above);
                if account.class.is_none() {
                    set(&self.undeclared_seconds, &[pool, &account.namespace], seconds);
                }
            }
        }
        for (key, operating) in &books.operating {
            let (namespace, name) = daylight_cluster::names::parts(key);
            let seconds = operating.until(books.written_until) as f64 / 1000.0;
            set(&self.operating, &[namespace, name], seconds);
        }
        for ((pool, usage), ms) in uses {
            set(&self.device_seconds, &[pool, usage], ms as f64 / 1000.0);
        }
        self.set_operated(books);
        self.set_energy(books);
        for ((account, seen), work) in &books.work {
            let evidence = if *seen { Evidence::Seen } else { Evidence::Claimed }.to_string();
            let (namespace, name) =
                (&*account.namespace, of_registration(account.registration.as_ref()));
            for (result, shares) in
                [(ACCEPTED, work.shares_accepted), (REJECTED, work.shares_rejected)]
            {
                raise(&self.shares, &[namespace, name, result, &evidence], shares);
            }
            raise(&self.hashes, &[namespace, name, &evidence], work.hashes);
        }
        for (pool, entry) in &books.pools {
            let pool = [of_pool(pool.as_ref())];
            set(&self.gaps, &pool, entry.gap_ms as f64 / 1000.0);
            set(&self.overcommitted, &pool, entry.overcommitted_ms as f64 / 1000.0);
        }
    }

    fn set_operated(&self, books: &Books) {
        const MIB: f64 = (1 << 20) as f64;
        for ((pool, account), operated) in &books.operated {
            let labels = of_account(pool.as_ref(), account);
            let pod_ms = operated.pod_ms;
            set(&self.operating_pod_seconds, &labels, pod_ms.value as f64 / 1000.0);
            set_bounds(&self.operating_error, labels, pod_ms.below, pod_ms.above);
            let cpu_seconds = operated.millicore_ms.value as f64 / 1e6;
            set(&self.requested_cpu, &labels, cpu_seconds);
            let byte_seconds = |mib_ms: u128| mib_ms as f64 * MIB / 1000.0;
            set(&self.requested_memory, &labels, byte_seconds(operated.memory_mib_ms.value));
            set(&self.claimed_storage, &labels, byte_seconds(operated.storage_mib_ms.value));
        }
    }

    fn set_energy(&self, books: &Books) {
        let mut errors: BTreeMap<&Key, (u64, u64)> = BTreeMap::new();
        let mut unheld: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for ((key, method), mj) in &books.energy {
            if let Use::Pod(account) = &key.usage {
                let [pool, class, registration, namespace] = of_account(key.pool.as_ref(), account);
                let labels = [pool, class, registration, namespace, method.into_str()];
                set(&self.pod_energy, &labels, mj.value as f64 / 1000.0);
            } else if matches!(key.usage, Use::Lease(_)) {
                let [pool, class, registration, namespace] = of_lease(key);
                let labels = [pool, class, registration, namespace, method.into_str()];
                set(&self.energy, &labels, mj.value as f64 / 1000.0);
                let error = errors.entry(key).or_default();
                error.0 += mj.below;
                error.1 += mj.above;
            } else {
                let kind = match method {
                    Method::Unexplained => method.into_str(),
                    _ => Use::Idle.into_str(),
                };
                *unheld.entry((of_pool(key.pool.as_ref()), kind)).or_default() += mj.value;
            }
        }
        for (key, (below, above)) in errors {
            set_bounds(&self.energy_error, of_lease(key), below, above);
        }
        for ((pool, kind), mj) in unheld {
            set(&self.unexplained, &[pool, kind], mj as f64 / 1000.0);
        }
    }
}

fn of_pool(pool: Option<&Name>) -> &str {
    pool.map_or("", |pool| pool)
}

fn of_class(class: Option<&Name>) -> &str {
    class.map_or(UNDECLARED, |class| class)
}

fn of_registration(registration: Option<&Name>) -> &str {
    registration.map_or("", |key| daylight_cluster::names::parts(key).1)
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("daylight_{name}"), help)
}

fn labelled<C: Collector + Clone + 'static>(
    register: &mut Register,
    new: fn(Opts, &[&str]) -> prometheus::Result<C>,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<C> {
    register.add(new(opts(name, help), labels))
}

/// Label of an entry's kind. The entries of a snapshot repeat what others have: they count as one
/// kind.
fn entry_kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::SnapshotBegin | Entry::Total(_) | Entry::Used { .. } | Entry::SnapshotEnd => {
            "snapshot"
        }
        entry => entry.into_str(),
    }
}

/// The values of [`OF_LEASE`].
fn of_lease(key: &Key) -> [&str; 4] {
    let Use::Lease(account) = &key.usage else { return [of_pool(key.pool.as_ref()), "", "", ""] };
    of_account(key.pool.as_ref(), account)
}

/// The values of [`OF_LEASE`] for an account in a pool.
fn of_account<'a>(pool: Option<&'a Name>, account: &'a Account) -> [&'a str; 4] {
    [
        of_pool(pool),
        of_class(account.class.as_ref()),
        of_registration(account.registration.as_ref()),
        &account.namespace,
    ]
}

/// Sets how far the truth may be off; the bounds are in thousandths of the metric's unit.
fn set_bounds(gauge: &GaugeVec, of_lease: [&str; 4], below: u64, above: u64) {
    let [pool, class, registration, namespace] = of_lease;
    for (side, bound) in [("below", below), ("above", above)] {
        let labels = [pool, class, registration, namespace, side];
        gauge.with_label_values(&labels).set(bound as f64 / 1000.0);
    }
}

/// Raises a counter to a total.
fn set(counter: &CounterVec, labels: &[&str], total: f64) {
    let counter = counter.with_label_values(labels);
    let more = total - counter.get();
    if more > 0.0 {
        counter.inc_by(more);
    }
}

/// Raises a counter of integers to a total.
fn raise(counter: &IntCounterVec, labels: &[&str], total: u64) {
    let counter = counter.with_label_values(labels);
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use daylight_base::Timestamp;
    use daylight_meter::{
        AuditorEvent, ObjectKind, ObservedSettings, Operating, Period, SettingsEntry,
        SignatureRule, Total,
    };
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn each_label_has_its_word() {
        let node = Entry::Node(Box::default());
        let (start, end) = (Timestamp(0), Timestamp(1));
        let period = Period { registration: "a/b".into(), owner: None, start, end };
        let period = Entry::Period { period, at: start };
        let seen = ObservedSettings {
            signature: SignatureRule::Optional,
            authority_keys: Vec::new(),
            emergency_stop: None,
            admission_mode: None,
            ledger_keys: Vec::new(),
        };
        let settings = Box::new(SettingsEntry { seen, at: Timestamp(0) });
        let clock = Entry::Clock { at: Timestamp(0), back_ms: 1 };
        let (event, version) = (AuditorEvent::Started, "1.0.0".into());
        let auditor = Entry::Auditor { at: Timestamp(0), event, version };
        for (entry, kind) in [
            (node, "node"),
            (period, "period"),
            (clock, "clock"),
            (auditor, "auditor"),
            (Entry::Settings(settings), "settings"),
            (Entry::SnapshotBegin, "snapshot"),
            (Entry::Total(Total::default()), "snapshot"),
            (Entry::SnapshotEnd, "snapshot"),
        ] {
            assert_eq!(entry_kind(&entry), kind);
        }
        assert_eq!(ScrapeOutcome::Read.into_str(), "read");
        assert_eq!(ScrapeOutcome::Failed.into_str(), "failed");
        assert_eq!(NodeSource::Exporter.into_str(), "exporter");
        assert_eq!(NodeSource::Count.into_str(), "count");
        let evidence = [Evidence::Seen, Evidence::Claimed].map(|it| it.to_string());
        assert_eq!(evidence, ["seen", "claimed"]);
        assert_eq!((ACCEPTED, REJECTED), ("accepted", "rejected"));
        let uses = [Use::Lease(Account::default()), Use::Idle, Use::Unavailable];
        assert_eq!(uses.map(|usage| usage.into_str()), ["lease", "idle", "unavailable"]);
        let methods: Vec<&str> = Method::VARIANTS.iter().map(Method::into_str).collect();
        assert_eq!(methods, ["counter", "power", "declared", "shared", "unexplained"]);
        let kinds: Vec<&str> = ObjectKind::VARIANTS.iter().map(ObjectKind::into_str).collect();
        let expected = [
            "ActivityClass",
            "Declaration",
            "GpuPool",
            "Registration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn what_a_scrape_shows_is_what_was_set() {
        let metrics = Metrics::new().unwrap();
        let late = LateNode { pool: "hall".into(), node: "n1".into(), until: Timestamp(61_500) };
        metrics.set_late_nodes(&[late]);
        let usage = |peak_watts| Usage { peak_watts, ..Usage::default() };
        let usages = [("a/night".into(), usage(350)), ("a/new".into(), usage(0))];
        metrics.set_peaks(&BTreeMap::from(usages));
        let night = Name::from("a/night");
        let operating = Operating { ms: 2500, since: Some(Timestamp(7000)) };
        metrics.set_books(&Books {
            operating: BTreeMap::from([(night.clone(), operating)]),
            written_until: Timestamp(8000),
            ..Books::default()
        });
        let not_ready = [((night, "PoolUnreachable".to_owned()), 2)];
        metrics.set_agents_not_ready(&BTreeMap::from(not_ready));
        metrics.set_journal_free(1 << 30);
        metrics.set_admission(&AdmissionState {
            expected: 36,
            found: 35,
            altered: 1,
            mode: Some(AdmissionMode::Warn),
        });
        let text = crate::serving::render(metrics.registry()).unwrap();
        for line in [
            "node_energy_metered_until_timestamp_seconds{node=\"n1\",pool=\"hall\"} 61",
            "registration_peak_watts{namespace=\"a\",registration=\"night\"} 350",
            "registration_operating_seconds_total{namespace=\"a\",registration=\"night\"} 3.5",
            "miner_agents_not_ready{namespace=\"a\",reason=\"PoolUnreachable\",registration=\"night\"} 2",
            "journal_free_bytes 1073741824",
            "admission_policies{state=\"altered\"} 1",
            "admission_policies{state=\"expected\"} 36",
            "admission_policies{state=\"found\"} 35",
            "admission_mode{mode=\"Audit\"} 0",
            "admission_mode{mode=\"Warn\"} 1",
        ] {
            assert!(text.contains(&format!("daylight_{line}\n")), "{line}: {text}");
        }
        assert!(!text.contains("registration=\"new\""), "it was never metered");
        metrics.set_late_nodes(&[]);
        let text = crate::serving::render(metrics.registry()).unwrap();
        assert!(!text.contains("node=\"n1\""), "no node is late");
    }

    #[test]
    fn the_documentation_has_every_metric_and_no_other() {
        crate::metric_table::check("Auditor", Metrics::new().unwrap().rows().to_vec());
    }
}
