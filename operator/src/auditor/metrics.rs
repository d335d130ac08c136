//! What Prometheus sees of the auditor. Every name begins with `daylight_`.
//!
//! Totals are those of the books, which are rebuilt from the journal: they go on where they were
//! before a restart.

use std::collections::BTreeMap;

use daylight_base::Name;
use daylight_meter::{Books, Key, Method, Use};
use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use rustc_hash::FxHashMap;

use crate::metric_table::{Register, Row};
use crate::serving::Whole;
use crate::view::Assigned;

/// All metrics of the auditor.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Held while gauges are set anew.
    pub whole: Whole,
    rows: Vec<Row>,
    assigned_seconds: CounterVec,
    device_seconds: CounterVec,
    undeclared_seconds: CounterVec,
    energy: CounterVec,
    unexplained: CounterVec,
    unregistered: IntGaugeVec,
    shares: IntCounterVec,
    hashes: IntCounterVec,
    /// Edits of registrations, classes and pools that nobody saw, found by this process.
    pub unseen_edits: IntCounterVec,
    energy_error: GaugeVec,
    time_error: GaugeVec,
    gaps: CounterVec,
    overcommitted: CounterVec,
    /// 1 if the books close, for time and energy of all pools.
    pub books_closed: IntGauge,
    /// Entries in the journal.
    pub log_size: IntGauge,
    /// Bytes that wait to be written to the journal.
    pub unwritten: IntGauge,
    /// Until when everything is booked, in seconds since the epoch.
    pub booked_until: IntGauge,
    /// Entries made by this process, by kind.
    pub entries: IntCounterVec,
    /// Answers of exporters, by how they came out.
    pub scrapes: IntCounterVec,
    /// Nodes in the books, by how their energy is known.
    pub nodes: IntGaugeVec,
}

/// The labels of what a lease held.
const OF_LEASE: [&str; 4] = ["pool", "class", "registration", "namespace"];

impl Metrics {
    /// A registry with all of them, at zero.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("daylight_{name}"), help);
        let with_method = [&OF_LEASE[..], &["method"]].concat();
        let mut r = Register::new(&registry);
        let build_info = r.add(IntGaugeVec::new(
            opts("build_info", "The version that runs; the value is 1."),
            &["version"],
        ))?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            assigned_seconds: r.add(CounterVec::new(
                    opts("assigned_gpu_seconds_total", "Device time that leases held."),
                    &OF_LEASE,
                ),
            )?,
            device_seconds: r.add(CounterVec::new(
                    opts(
                        "device_seconds_total",
                        "Device time by use: lease, idle or unavailable; together devices times seconds.",
                    ),
                    &["pool", "use"],
                ),
            )?,
            undeclared_seconds: r.add(CounterVec::new(
                    opts(
                        "undeclared_gpu_seconds_total",
                        "Device time held by pods that declare no class.",
                    ),
                    &["pool", "namespace"],
                ),
            )?,
            energy: r.add(CounterVec::new(
                    opts("gpu_energy_joules_total", "Energy of devices while leases held them."),
                    &with_method,
                ),
            )?,
            unexplained: r.add(CounterVec::new(
                    opts(
                        "unheld_energy_joules_total",
                        "Energy of devices that nobody held: kind=\"idle\" up to what an idle device draws, kind=\"unexplained\" above it.",
                    ),
                    &["pool", "kind"],
                ),
            )?,
            unregistered: r.add(IntGaugeVec::new(
                    opts(
                        "unregistered_gpus",
                        "GPUs held by pods whose registration is missing or not in force, as the auditor itself finds; more than a drain long it is an alarm.",
                    ),
                    &OF_LEASE,
                ),
            )?,
            shares: r.add(IntCounterVec::new(
                    opts(
                        "miner_shares_total",
                        "Shares that miners told of as they ended: result=\"accepted\" or \"rejected\", evidence=\"seen\" by a trusted agent or \"claimed\".",
                    ),
                    &["namespace", "registration", "result", "evidence"],
                ),
            )?,
            hashes: r.add(IntCounterVec::new(
                    opts("miner_hashes_total", "Hashes that miners told of as they ended."),
                    &["namespace", "registration", "evidence"],
                ),
            )?,
            unseen_edits: r.add(IntCounterVec::new(
                    opts(
                        "unseen_edits_total",
                        "Edits of a spec that nobody saw, as jumps of its generation show; found by this process.",
                    ),
                    &["kind"],
                ),
            )?,
            energy_error: r.add(GaugeVec::new(
                    opts(
                        "energy_error_bound_joules",
                        "How far the true energy may be from what is booked, at most: side=\"below\" or \"above\".",
                    ),
                    &["pool", "class", "registration", "namespace", "side"],
                ),
            )?,
            time_error: r.add(GaugeVec::new(
                    opts(
                        "time_error_bound_seconds",
                        "How far the true device time may be from what is booked, at most.",
                    ),
                    &["pool", "class", "registration", "namespace", "side"],
                ),
            )?,
            gaps: r.add(CounterVec::new(
                    opts(
                        "meter_gap_seconds_total",
                        "Device time over which nothing was measured, or not to be believed.",
                    ),
                    &["pool"],
                ),
            )?,
            overcommitted: r.add(CounterVec::new(
                    opts(
                        "overcommitted_gpu_seconds_total",
                        "Time of GPUs that were held beyond the devices there are, as with time-slicing.",
                    ),
                    &["pool"],
                ),
            )?,
            books_closed: r.add(IntGauge::with_opts(opts(
                    "books_closed",
                    "1 if time and energy of every pool add up to the last unit.",
                )),
            )?,
            log_size: r.add(IntGauge::with_opts(opts("audit_log_size", "Entries in the journal.")),
            )?,
            unwritten: r.add(IntGauge::with_opts(opts(
                    "audit_log_unwritten_bytes",
                    "Bytes of entries that wait to be written to the journal.",
                )),
            )?,
            booked_until: r.add(IntGauge::with_opts(opts(
                    "booked_until_timestamp_seconds",
                    "Until when all device time is booked.",
                )),
            )?,
            entries: r.add(IntCounterVec::new(
                    opts("audit_log_entries_total", "Entries that this process made, by kind."),
                    &["kind"],
                ),
            )?,
            scrapes: r.add(IntCounterVec::new(
                    opts(
                        "exporter_scrapes_total",
                        "Answers of exporters: outcome=\"read\" or \"failed\".",
                    ),
                    &["outcome"],
                ),
            )?,
            nodes: r.add(IntGaugeVec::new(
                    opts("metered_nodes", "Nodes in the books: by=\"exporter\" or by=\"count\"."),
                    &["by"],
                ),
            )?,
            whole: Whole::default(),
            rows: r.rows(),
            registry,
        })
    }

    /// All of them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What they are.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Takes over which GPUs are held without a registration in force.
    pub fn set_unregistered(&self, held: FxHashMap<Assigned, u32>) {
        let _whole = self.whole.hold();
        self.unregistered.reset();
        for (held, gpus) in held {
            let labels = [
                &*held.pool,
                of_class(held.class.as_ref()),
                of_registration(held.registration.as_ref()),
                &*held.namespace,
            ];
            self.unregistered.with_label_values(&labels).set(i64::from(gpus));
        }
    }

    /// Takes the totals of the books over.
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
        for ((pool, usage), ms) in uses {
            set(&self.device_seconds, &[pool, usage], ms as f64 / 1000.0);
        }
        self.set_energy(books);
        for ((account, seen), work) in &books.work {
            let evidence = if *seen { "seen" } else { "claimed" };
            let (namespace, name) =
                (&*account.namespace, of_registration(account.registration.as_ref()));
            for (result, shares) in
                [("accepted", work.shares_accepted), ("rejected", work.shares_rejected)]
            {
                raise(&self.shares, &[namespace, name, result, evidence], shares);
            }
            raise(&self.hashes, &[namespace, name, evidence], work.hashes);
        }
        for (pool, entry) in &books.pools {
            let pool = [of_pool(pool.as_ref())];
            set(&self.gaps, &pool, entry.gap_ms as f64 / 1000.0);
            set(&self.overcommitted, &pool, entry.overcommitted_ms as f64 / 1000.0);
        }
    }

    fn set_energy(&self, books: &Books) {
        let mut errors: BTreeMap<&Key, (u64, u64)> = BTreeMap::new();
        let mut unheld: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for ((key, method), mj) in &books.energy {
            if matches!(key.usage, Use::Lease(_)) {
                let [pool, class, registration, namespace] = of_lease(key);
                let labels = [pool, class, registration, namespace, method.into_str()];
                set(&self.energy, &labels, mj.value as f64 / 1000.0);
                let error = errors.entry(key).or_default();
                error.0 += mj.below;
                error.1 += mj.above;
            } else {
                let unexplained = *method == Method::Unexplained;
                let kind = if unexplained { "unexplained" } else { "idle" };
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
    class.map_or("undeclared", |class| class)
}

fn of_registration(registration: Option<&Name>) -> &str {
    registration.map_or("", |key| daylight_cluster::names::parts(key).1)
}

/// The values of [`OF_LEASE`].
fn of_lease(key: &Key) -> [&str; 4] {
    let Use::Lease(account) = &key.usage else { return [of_pool(key.pool.as_ref()), "", "", ""] };
    [
        of_pool(key.pool.as_ref()),
        of_class(account.class.as_ref()),
        of_registration(account.registration.as_ref()),
        &account.namespace,
    ]
}

/// Says how far the truth may be off, in thousandths.
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

/// Raises a counter of whole things to a total.
fn raise(counter: &IntCounterVec, labels: &[&str], total: u64) {
    let counter = counter.with_label_values(labels);
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_metric_and_no_other() {
        crate::metric_table::check("Auditor", Metrics::new().unwrap().rows().to_vec());
    }
}
