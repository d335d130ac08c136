//! For those who run Daylight: whether it leads, plans and writes, and how fast.

use crate::model::{BAD_ABOVE_ZERO, Dashboard, Panel, graph, row, stat, table};

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
    ]
}
