//! For a tenant and the compliance officer: one registration, its limits, and what it did.

use crate::model::{
    BAD_ABOVE_ZERO, Dashboard, Panel, bars, graph, range_link, row, stat, table, variable,
};

/// The matchers of the selected registration.
const ONE: &str = r#"namespace="$namespace", registration="$registration""#;

/// Where the exact figures are, for panels that compute from scrapes.
const EXACT: &str = "These are differences between the first and the last scrape of the range, \
                     not extrapolated: time and energy before the first scrape and after the last \
                     are missing. The exact totals are in the table since the journal began, and \
                     each booking with its bounds in the journal (daylight ledger verify --print).";

/// States of a registration with their colours.
const STATES: [(&str, &str); 9] = [
    ("Active", "green"),
    ("Pending", "orange"),
    ("Scheduled", "blue"),
    ("Changed", "red"),
    ("SignatureMissing", "red"),
    ("SignatureInvalid", "red"),
    ("Expired", "red"),
    ("Suspended", "red"),
    ("Revoked", "red"),
];

fn of(metric: &str) -> String {
    format!("{metric}{{{ONE}}}")
}

/// What a counter that survives restarts moved in the selected range, without extrapolation.
pub(crate) fn moved(by: &str, series: &str, range: &str) -> String {
    format!("sum by ({by}) (max_over_time({series}[{range}]) - min_over_time({series}[{range}]))")
}

pub(crate) fn dashboard() -> Dashboard {
    let uid = "daylight-registration";
    Dashboard {
        uid,
        title: "Daylight / Registration",
        description: "One registration: its state, the use of its limits, and its GPU-time, energy \
                      and work.",
        variables: vec![
            variable(
                "namespace",
                "Namespace",
                "label_values(daylight_registration_info, namespace)",
                false,
            ),
            variable(
                "registration",
                "Registration",
                r#"label_values(daylight_registration_info{namespace="$namespace"}, registration)"#,
                false,
            ),
        ],
        links: vec![
            range_link("Today", uid, "now/d", "now"),
            range_link("This month", uid, "now/M", "now"),
            range_link("Last month", uid, "now-1M/M", "now-1M/M"),
        ],
        rows: vec![
            row("State", 4, state()),
            row("Limits", 8, limits()),
            row("Since the journal began", 5, since_the_journal_began()),
            row("In the selected range", 8, in_range()),
            row("Work", 7, work()),
        ],
    }
}

fn state() -> Vec<Panel> {
    vec![
        stat(
            "State",
            "The state that it is in. `kubectl daylight why registration` explains it and says \
             what to do, who approved it, and who edited it.",
            "short",
            4,
            &format!("max by (state) ({} == 1)", of("daylight_registration_status")),
        )
        .name_only("{{state}}")
        .none("No such registration")
        .colors(&STATES),
        stat(
            "Valid for",
            "Time until it ends. Mining stops one drain time earlier. A renewal needs a new \
             approval.",
            "s",
            4,
            &format!("max({}) - time()", of("daylight_registration_expiry_timestamp_seconds")),
        )
        .thresholds(&[
            (None, "red"),
            (Some(604_800.0), "orange"),
            (Some(2_592_000.0), "green"),
        ]),
        stat(
            "Over a limit",
            "Whether a limit of it, or of its owner, is exceeded. It holds again within the drain \
             time after a limit was lowered.",
            "short",
            4,
            &format!("max({})", of("daylight_registration_over_limit")),
        )
        .texts(&[(0, "No"), (1, "Yes")])
        .thresholds(BAD_ABOVE_ZERO),
        stat(
            "Energy limit reached in",
            "Time until its energy limit is reached at the present rate, if that is before the \
             end of the current period. Mining stops then until the next period.",
            "s",
            4,
            &format!("min({}) - time()", of("daylight_registration_forecast_timestamp_seconds")),
        )
        .none("Not in this period")
        .thresholds(&[
            (None, "text"),
            (Some(0.0), "red"),
            (Some(86_400.0), "orange"),
            (Some(604_800.0), "green"),
        ]),
        stat(
            "Energy read",
            "Age of the energy figures: time since the moment up to which the energy of all its \
             leases is booked. Above five minutes, an energy limit stops mining.",
            "s",
            4,
            &format!(
                "time() - max({})",
                of("daylight_registration_metered_until_timestamp_seconds")
            ),
        )
        .none("Never read")
        .thresholds(&[(None, "green"), (Some(150.0), "orange"), (Some(300.0), "red")]),
        stat(
            "GPUs now",
            "GPUs that its pods hold.",
            "short",
            4,
            &format!("sum({}) or vector(0)", of("daylight_assigned_gpus")),
        ),
        stat(
            "Approved",
            "When it was approved, if the last decision is an approval. An edit after that needs \
             a new one: then it is approved here, and waits for an approval.",
            "dateTimeAsIso",
            4,
            &format!("max({}) * 1000", of("daylight_registration_approval_timestamp_seconds")),
        )
        .none("Not approved"),
        stat(
            "Waits for approval",
            "Time since when it waits for an approval: a new one since its creation, an edited \
             one since it is not in force.",
            "s",
            4,
            &format!(
                "time() - max({})",
                of("daylight_registration_pending_since_timestamp_seconds")
            ),
        )
        .none("No")
        .thresholds(&[(None, "text"), (Some(0.0), "orange"), (Some(259_200.0), "red")]),
        stat(
            "Peak power of a replica",
            "Highest mean power of one replica between two readings of the meter, since it was \
             first metered. GPU boards only.",
            "watt",
            4,
            &format!("max({})", of("daylight_registration_peak_watts")),
        )
        .none("Never read"),
        stat(
            "In operation",
            "Time in which at least one replica ran, with or without GPUs, since the journal \
             records it. GPU-hours are in the table of the books.",
            "s",
            4,
            &format!("sum({})", of("daylight_registration_operating_seconds_total")),
        )
        .none("Not yet"),
        stat(
            "Replicas running",
            "Replicas that run, as a share of those that the specs of its miners want. \
             `kubectl daylight why miner` names the reason why others do not.",
            "percentunit",
            4,
            &format!("{} / ({} > 0)", replicas("running"), replicas("wanted")),
        )
        .decimals(0)
        .none("None wanted"),
        stat(
            "Failing miners",
            "Miners whose pods fail by themselves, of which none has been ready since. The status \
             of the miner has the cause.",
            "short",
            4,
            &format!("sum({}) or vector(0)", of("daylight_failing_miners")),
        )
        .thresholds(BAD_ABOVE_ZERO),
    ]
}

/// All replicas of its miners that are `wanted` or `running`.
fn replicas(which: &str) -> String {
    format!(r#"sum(daylight_miner_replicas{{{ONE}, of="{which}"}})"#)
}

/// A series with joules as kWh, and the name of that limit as `kWh`.
fn in_kwh(metric: &str, matchers: &str) -> String {
    let joules = format!(r#"{metric}{{{matchers}, limit="joules"}} / 3.6e6"#);
    format!(
        r#"label_replace({joules}, "limit", "kWh", "", "") or {metric}{{{matchers}, limit!="joules"}}"#
    )
}

fn limits() -> Vec<Panel> {
    let used = of("daylight_registration_used");
    let limit = format!(r#"daylight_registration_limit{{{ONE}, of="registration"}}"#);
    let share = format!("max by (limit) ({used}) / max by (limit) ({limit})");
    let steps = &[(None, "green"), (Some(0.8), "orange"), (Some(1.0), "red")];
    vec![
        bars(
            "Limits used",
            "The share of its own limits that it uses: GPUs and watts now, joules in the current \
             period. Mining stops in advance, so that no limit is exceeded.",
            "percentunit",
            6,
        )
        .now(&share, "{{limit}}")
        .thresholds(steps)
        .max(1.0),
        graph(
            "Limits used over time",
            "The share of its own limits that it uses. Energy begins again with each period.",
            "percentunit",
            10,
        )
        .line(&share, "{{limit}}")
        .max(1.0)
        .colors(&[("gpus", "blue"), ("watts", "orange"), ("joules", "purple")]),
        table(
            "Limits",
            "What it may take, and what it takes: GPUs and watts now, kWh in the current period. \
             The limit of the owner is for all registrations of the owner.",
            "short",
            8,
        )
        .column(
            "Its limit",
            &format!(
                "max by (limit) ({})",
                in_kwh("daylight_registration_limit", &format!(r#"{ONE}, of="registration""#))
            ),
        )
        .column(
            "Owner's limit",
            &format!(
                "max by (limit) ({})",
                in_kwh("daylight_registration_limit", &format!(r#"{ONE}, of="owner""#))
            ),
        )
        .column("Used", &format!("max by (limit) ({})", in_kwh("daylight_registration_used", ONE)))
        .order(&["limit", "Value #A", "Value #C", "Value #B"]),
    ]
}

/// Time and energy by pool and class, with bounds, as the books have them.
fn since_the_journal_began() -> Vec<Panel> {
    let by = "pool, class";
    let energy = of("daylight_gpu_energy_joules_total");
    let bound =
        |metric: &str, side: &str| format!(r#"sum by ({by}) ({metric}{{{ONE}, side="{side}"}})"#);
    let time_bound = |side: &str| bound("daylight_time_error_bound_seconds", side);
    let energy_bound = |side: &str| bound("daylight_energy_error_bound_joules", side);
    vec![
        table(
            "Booked by pool and class",
            "The exact totals of the books since the journal began, whatever range is selected, \
             with the bounds of each: the truth is at least the value less `below`, and at most \
             the value plus `above`. They continue over restarts.",
            "short",
            16,
        )
        .column(
            "GPU-hours",
            &format!("sum by ({by}) ({}) / 3600", of("daylight_assigned_gpu_seconds_total")),
        )
        .column("h below", &format!("{} / 3600", time_bound("below")))
        .column("h above", &format!("{} / 3600", time_bound("above")))
        .column("kWh", &format!("sum by ({by}) ({energy}) / 3.6e6"))
        .column("kWh below", &format!("{} / 3.6e6", energy_bound("below")))
        .column("kWh above", &format!("{} / 3.6e6", energy_bound("above")))
        .decimals(3)
        .order(&["pool", "class"]),
        table(
            "Energy by method",
            "The same energy by the method by which it was measured: by the devices' counters, by \
             their power, as declared by the miner, or shared among pods that may have had the \
             device.",
            "short",
            8,
        )
        .column("kWh", &format!("sum by (class, method) ({energy}) / 3.6e6"))
        .decimals(3)
        .order(&["class", "method"]),
    ]
}

fn in_range() -> Vec<Panel> {
    let energy = of("daylight_gpu_energy_joules_total");
    let energy_bound =
        |side: &str| format!(r#"daylight_energy_error_bound_joules{{{ONE}, side="{side}"}}"#);
    vec![
        table(
            "Energy and time",
            &format!(
                "GPU-hours and kWh in the selected range, and by how much their bounds moved. The \
                 links above select a day or a month. {EXACT}"
            ),
            "short",
            10,
        )
        .column(
            "GPU-hours",
            &format!(
                "{} / 3600",
                moved("class", &of("daylight_assigned_gpu_seconds_total"), "$__range")
            ),
        )
        .column("kWh", &format!("{} / 3.6e6", moved("class", &energy, "$__range")))
        .column(
            "kWh below",
            &format!("{} / 3.6e6", moved("class", &energy_bound("below"), "$__range")),
        )
        .column(
            "kWh above",
            &format!("{} / 3.6e6", moved("class", &energy_bound("above"), "$__range")),
        )
        .decimals(3)
        .order(&["class"]),
        graph(
            "Power by method",
            "Mean power of its devices between readings of the meter, by the method by which the \
             energy was measured. GPU boards only.",
            "watt",
            7,
        )
        .line(&format!("sum by (method) (rate({energy}[$__rate_interval]))"), "{{method}}")
        .stacked(),
        graph(
            "Energy by day",
            &format!(
                "kWh of the 24 hours before each point, by method; days are those of UTC. {EXACT}"
            ),
            "kwatth",
            7,
        )
        .line(&format!("{} / 3.6e6", moved("method", &energy, "1d")), "{{method}}")
        .daily(),
    ]
}

fn work() -> Vec<Panel> {
    let shares = of("daylight_miner_shares_total");
    vec![
        graph("GPUs held", "GPUs that its pods hold, by pool.", "short", 8)
            .line(&format!("sum by (pool) ({})", of("daylight_assigned_gpus")), "{{pool}}")
            .stacked()
            .steps(),
        table(
            "Shares since the journal began",
            "Shares that its miners reported as they ended, by result. Evidence is `seen` where an \
             agent that the installation trusts counted them, and `claimed` otherwise. A pod that \
             runs has not reported yet.",
            "short",
            8,
        )
        .column("Shares", &format!("sum by (result, evidence) ({shares})"))
        .order(&["result", "evidence"]),
        stat(
            "Mean hash rate",
            "Hashes that its miners reported in the selected range, divided by the range. Miners \
             report as they end: a range that is short compared with the lives of the pods shows \
             too little or too much.",
            "Hs",
            4,
            &format!(
                "sum({}) / $__range_s",
                "max_over_time(X[$__range]) - min_over_time(X[$__range])"
                    .replace('X', &of("daylight_miner_hashes_total"))
            ),
        )
        .none("None reported"),
        stat(
            "Hashes reported",
            "All hashes that its miners reported as they ended, since the journal began.",
            "short",
            4,
            &format!("sum({})", of("daylight_miner_hashes_total")),
        )
        .none("None reported"),
        graph(
            "Replicas wanted and running",
            "Replicas that the specs of its miners want, and those that run, in all pools.",
            "short",
            8,
        )
        .line(&format!("sum by (of) ({})", of("daylight_miner_replicas")), "{{of}}")
        .steps()
        .colors(&[("wanted", "text"), ("running", "orange")]),
        graph(
            "Replicas that earn nothing",
            "Replicas whose agent reports that nothing is earned, by reason, such as a mining \
             pool that cannot be reached. Only of agents that the auditor queries.",
            "short",
            8,
        )
        .line(&format!("sum by (reason) ({})", of("daylight_miner_agents_not_ready")), "{{reason}}")
        .stacked()
        .steps(),
        graph(
            "Time in operation",
            "Share of the time in which at least one replica ran. It is interpolated between \
             scrapes.",
            "percentunit",
            8,
        )
        .line(
            &format!(
                "sum(rate({}[$__rate_interval]))",
                of("daylight_registration_operating_seconds_total")
            ),
            "in operation",
        )
        .max(1.0),
    ]
}
