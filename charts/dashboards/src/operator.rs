//! For those who run Daylight: whether it leads, plans and writes, and how fast.

use crate::model::{BAD_ABOVE_ZERO, Dashboard, Panel, graph, row, stat, table};

/// Seconds after which a list that admission reads counts as late, and as outdated.
const LIST_AGE: &[(Option<f64>, &str)] =
    &[(None, "green"), (Some(120.0), "orange"), (Some(600.0), "red")];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "daylight-operator",
        title: "Daylight / Operator",
        description: "Daylight's own processes: leader, plans, writes and watches.",
        variables: vec![],
        links: vec![],
        rows: vec![
            row("Now", 4, now()),
            row("Plans", 8, plans()),
            row("Writes", 8, writes()),
            row("Processes", 8, processes()),
        ],
    }
}

fn now() -> Vec<Panel> {
    vec![
        stat(
            "Leaders",
            "Controllers that lead. Without one, no miner and no AIJob starts and other work \
             continues; with two, one of them does not know yet that it lost its lease, and its \
             writes are refused.",
            "short",
            4,
            "sum(daylight_leader)",
        )
        .thresholds(&[(None, "red"), (Some(1.0), "green"), (Some(2.0), "red")])
        .none("No controller"),
        stat(
            "Stale watches",
            "Kinds of objects of which changes may be missing. No miner starts while there is one.",
            "short",
            4,
            "max(daylight_stale_watches)",
        )
        .thresholds(BAD_ABOVE_ZERO),
        stat(
            "Queued writes",
            "Changes of the current plan that wait to be sent. For minutes above 0, the API \
             server is slow or limits the controller.",
            "short",
            4,
            "sum(daylight_queued_writes)",
        )
        .thresholds(&[(None, "green"), (Some(100.0), "orange"), (Some(1000.0), "red")]),
        stat(
            "Plans that panicked",
            "A defect of Daylight: no miner starts meanwhile, and AI jobs are served. Since the \
             processes began.",
            "short",
            4,
            "sum(daylight_plan_panics_total)",
        )
        .thresholds(BAD_ABOVE_ZERO),
        table(
            "Versions",
            "The processes by version. Two versions are normal during an upgrade.",
            "short",
            8,
        )
        .column("Processes", "count by (version) (daylight_build_info)")
        .order(&["version"]),
        stat(
            "Pods awaiting the auditor",
            "Pods that have ended and still have the auditor's finalizer. Above 0 for minutes, the \
             auditor does not run, or cannot record their ends.",
            "short",
            6,
            "max(daylight_pods_awaiting_auditor and on (instance) daylight_leader == 1)",
        )
        .thresholds(&[(None, "green"), (Some(1.0), "orange"), (Some(100.0), "red")])
        .none("No leader"),
        stat(
            "Admission's lists",
            "Age of the older of the two lists that admission reads (classes and registrations): \
             time since it was last seen to be as the controller wants it.",
            "s",
            6,
            "time() - min(daylight_admission_list_timestamp_seconds)",
        )
        .thresholds(LIST_AGE)
        .none("No leader"),
        stat(
            "Failed attempts",
            "Attempts per minute to write that failed over the last five minutes. Conflicts among \
             them are normal, and are repeated.",
            "cpm",
            6,
            "sum(rate(daylight_write_errors_total[5m])) * 60 or vector(0)",
        ),
        stat(
            "Memory",
            "Resident memory of the process that has most.",
            "bytes",
            6,
            "max(daylight_resident_memory_bytes)",
        ),
    ]
}

/// The quantile of a histogram between two points of the graph.
fn quantile(quantile: &str, buckets: &str, by: &str) -> String {
    format!("histogram_quantile({quantile}, sum by ({by}) (rate({buckets}[$__rate_interval])))")
}

fn plans() -> Vec<Panel> {
    vec![
        graph("Plan duration", "How long a plan takes.", "s", 8)
            .line(&quantile("0.5", "daylight_plan_duration_seconds_bucket", "le"), "p50")
            .line(&quantile("0.99", "daylight_plan_duration_seconds_bucket", "le"), "p99"),
        graph("Plan lag", "Time from the first change that a plan takes in to the plan.", "s", 8)
            .line(&quantile("0.5", "daylight_plan_lag_seconds_bucket", "le"), "p50")
            .line(&quantile("0.99", "daylight_plan_lag_seconds_bucket", "le"), "p99"),
        graph(
            "Plans and events",
            "Plans, and events received from watches, per second.",
            "short",
            8,
        )
        .line("sum(rate(daylight_plan_duration_seconds_count[$__rate_interval]))", "plans")
        .line("sum(rate(daylight_watch_events_total[$__rate_interval]))", "events"),
    ]
}

fn writes() -> Vec<Panel> {
    vec![
        graph(
            "Writes by result",
            "Requests per second that change something. `refused` has an answer that says no, \
             `unknown` had none, `not leading` was held back since the lease may be lost.",
            "short",
            8,
        )
        .line("sum by (result) (rate(daylight_writes_total[$__rate_interval]))", "{{result}}")
        .stacked()
        .colors(&[
            ("done", "green"),
            ("refused", "orange"),
            ("unknown", "red"),
            ("not leading", "purple"),
        ]),
        graph(
            "Writes by kind",
            "Requests per second that change something, by what they do.",
            "short",
            8,
        )
        .line("sum by (write) (rate(daylight_writes_total[$__rate_interval]))", "{{write}}")
        .stacked(),
        graph(
            "Latency of the API server",
            "Time until a request that changes something is answered: the 99th percentile by \
             what it does.",
            "s",
            8,
        )
        .line(
            &quantile("0.99", "daylight_write_duration_seconds_bucket", "le, write"),
            "{{write}}",
        ),
        graph(
            "Failed attempts by category",
            "Attempts per second to write that failed, of which a request may have several. \
             `conflict`, `missing` and `budget` are normal in a cluster that others change, too.",
            "short",
            12,
        )
        .line(
            "sum by (category) (rate(daylight_write_errors_total[$__rate_interval]))",
            "{{category}}",
        )
        .stacked()
        .colors(&[
            ("conflict", "text"),
            ("missing", "light-blue"),
            ("budget", "blue"),
            ("throttled", "yellow"),
            ("forbidden", "red"),
            ("invalid", "dark-red"),
        ]),
        graph(
            "Failed attempts by kind",
            "Attempts per second to write that failed, by what they do, without conflicts.",
            "short",
            12,
        )
        .line(
            r#"sum by (write) (rate(daylight_write_errors_total{category!="conflict"}[$__rate_interval]))"#,
            "{{write}}",
        )
        .stacked(),
    ]
}

fn processes() -> Vec<Panel> {
    vec![
        graph("Leader", "1 for the process that leads.", "short", 12)
            .line("max by (instance) (daylight_leader)", "{{instance}}")
            .steps()
            .max(1.0),
        graph(
            "Queue",
            "Changes of the current plan that wait to be sent, and kinds of objects whose watch is \
             stale.",
            "short",
            12,
        )
        .line("sum(daylight_queued_writes)", "queued writes")
        .line("max(daylight_stale_watches)", "stale watches")
        .colors(&[("queued writes", "blue"), ("stale watches", "red")]),
        graph("Memory", "Resident memory of each process.", "bytes", 8)
            .line("max by (instance) (daylight_resident_memory_bytes)", "{{instance}}"),
        graph(
            "Pods awaiting the auditor",
            "Pods that have ended and still have the auditor's finalizer.",
            "short",
            8,
        )
        .line("max(daylight_pods_awaiting_auditor)", "pods")
        .steps(),
        graph(
            "Age of admission's lists",
            "Time since each list that admission reads was last seen to be as the controller wants \
             it.",
            "s",
            8,
        )
        .line("time() - max by (list) (daylight_admission_list_timestamp_seconds)", "{{list}}")
        .thresholds(LIST_AGE),
    ]
}
