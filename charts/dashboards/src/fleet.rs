//! For the platform team: what the pools' GPUs do, and whether AI work waits.

use crate::model::{
    BAD_ABOVE_ZERO, Dashboard, EMERGENCY_STOP, Panel, graph, row, stat, table, variable,
};

/// The states of a GPU with their colours, in the order in which they are stacked.
pub(crate) const STATES: [(&str, &str); 8] = [
    ("ai", "blue"),
    ("mining", "orange"),
    ("idle", "green"),
    ("headroom", "light-green"),
    ("undeclared", "red"),
    ("unlisted", "dark-red"),
    ("unavailable", "text"),
    ("quarantined", "yellow"),
];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "daylight-fleet",
        title: "Daylight / Fleet",
        description: "The use of the pools' GPUs, and the time that AI work waits for them.",
        variables: vec![variable("pool", "Pool", "label_values(daylight_pool_gpus, pool)", true)],
        links: vec![],
        rows: vec![
            row(
                "Now",
                4,
                vec![
                    stat(
                        "GPUs",
                        "All GPUs of the selected pools.",
                        "short",
                        4,
                        r#"sum(daylight_pool_gpus{pool=~"$pool"})"#,
                    ),
                    stat(
                        "AI",
                        "GPUs held by pods of classes with guaranteed assignment, or reserved for \
                         AIJobs.",
                        "short",
                        4,
                        r#"sum(daylight_pool_gpus{pool=~"$pool", state="ai"})"#,
                    )
                    .thresholds(&[(None, "blue")]),
                    stat(
                        "Mining",
                        "GPUs that registered miners hold.",
                        "short",
                        4,
                        r#"sum(daylight_pool_gpus{pool=~"$pool", state="mining"})"#,
                    )
                    .thresholds(&[(None, "orange")]),
                    stat(
                        "Idle recovered",
                        "Share of the GPUs without AI work that mine. The rest is headroom, or \
                         held back by a limit, a window or the power budget.",
                        "percentunit",
                        4,
                        r#"sum(daylight_pool_gpus{pool=~"$pool", state="mining"}) / sum(daylight_pool_gpus{pool=~"$pool", state=~"mining|idle|headroom"})"#,
                    )
                    .decimals(0),
                    stat(
                        "Undeclared or unlisted",
                        "GPUs held by pods without an activity class, or of one that does not \
                         exist or is prohibited. The audit dashboard shows whose they are.",
                        "short",
                        4,
                        r#"sum(daylight_pool_gpus{pool=~"$pool", state=~"undeclared|unlisted"})"#,
                    )
                    .thresholds(BAD_ABOVE_ZERO),
                    stat(
                        "Out of use",
                        "GPUs of nodes that are not ready or are cordoned, and GPUs on which miners \
                         failed and that are quarantined for a time.",
                        "short",
                        4,
                        r#"sum(daylight_pool_gpus{pool=~"$pool", state=~"unavailable|quarantined"})"#,
                    )
                    .thresholds(&[(None, "green"), (Some(1.0), "orange")]),
                    stat(
                        "Emergency stop",
                        "Whether an emergency stop is in force. Meanwhile nothing mines in any \
                         pool. `kubectl daylight resume` ends it.",
                        "short",
                        4,
                        EMERGENCY_STOP,
                    )
                    .texts(&[(0, "No"), (1, "In force")])
                    .thresholds(BAD_ABOVE_ZERO)
                    .none("No leader"),
                    stat(
                        "Pools outside their windows",
                        "Pools that do not mine now since none of their mining windows is open.",
                        "short",
                        4,
                        r#"sum(1 - max by (pool) (daylight_pool_window_open{pool=~"$pool"}))"#,
                    ),
                    stat(
                        "Power budget used",
                        "Power of a pool's miners as a share of its power budget, in the pool \
                         where it is largest. Of each miner, the larger of declared and measured \
                         power counts.",
                        "percentunit",
                        4,
                        r#"max(max by (pool) (daylight_pool_watts{pool=~"$pool", of="mining"}) / max by (pool) (daylight_pool_watts{pool=~"$pool", of="budget"}))"#,
                    )
                    .decimals(0)
                    .thresholds(&[(None, "green"), (Some(0.9), "orange"), (Some(1.001), "red")])
                    .none("No budget"),
                    stat(
                        "Overdue terminations",
                        "Pods of miners that are still there 30 seconds after the end of their \
                         grace period, and hold their GPUs. Usually their node does not answer.",
                        "short",
                        4,
                        r#"sum(daylight_overdue_terminations{pool=~"$pool"})"#,
                    )
                    .thresholds(BAD_ABOVE_ZERO),
                    stat(
                        "AIJobs queued",
                        "AIJobs that wait for GPUs, with those for which no pool is chosen yet.",
                        "short",
                        4,
                        r#"sum(daylight_ai_jobs{pool=~"$pool|", state="queued"})"#,
                    ),
                    stat(
                        "Oldest AIJob queued",
                        "Time since the creation of the AIJob that has been queued for longest. \
                         `kubectl daylight why aijob` names what it waits for.",
                        "s",
                        4,
                        r#"time() - min(daylight_oldest_queued_ai_job_timestamp_seconds{pool=~"$pool|"})"#,
                    )
                    .none("None"),
                ],
            ),
            row(
                "GPUs",
                9,
                vec![
                    graph("GPUs by state", "The GPUs of the selected pools by state.", "short", 12)
                        .line(
                            r#"sum by (state) (daylight_pool_gpus{pool=~"$pool"})"#,
                            "{{state}}",
                        )
                        .stacked()
                        .colors(&STATES),
                    pools(),
                ],
            ),
            row(
                "AI work",
                8,
                vec![
                    graph(
                        "AI wait",
                        "Time from the creation of AI work until all its pods are bound, and the \
                         part of it in which miners were leaving. Each point covers the hour \
                         before it, in all pools; without AI work in that hour there is none.",
                        "s",
                        8,
                    )
                    .line(&quantile("0.5", r#"daylight_ai_wait_seconds_bucket{part="total"}"#), "p50")
                    .line(&quantile("0.99", r#"daylight_ai_wait_seconds_bucket{part="total"}"#), "p99")
                    .line(
                        &quantile("0.99", r#"daylight_ai_wait_seconds_bucket{part="miners"}"#),
                        "p99, due to miners",
                    )
                    .colors(&[("p50", "light-blue"), ("p99", "blue"), ("p99, due to miners", "orange")]),
                    graph(
                        "Reclaim",
                        "Time from the eviction of a miner's pod to its end. Each point covers the \
                         hour before it, in all pools. Longer than the drain timeout means that \
                         pods do not end when they are asked to.",
                        "s",
                        8,
                    )
                    .line(&quantile("0.5", "daylight_reclaim_duration_seconds_bucket"), "p50")
                    .line(&quantile("0.99", "daylight_reclaim_duration_seconds_bucket"), "p99"),
                    graph(
                        "Evictions",
                        "Miner pods that Daylight ended per minute, by reason, in all pools. The \
                         rate is interpolated between scrapes; the journal has each end.",
                        "cpm",
                        8,
                    )
                    .line(
                        "sum by (reason) (rate(daylight_evictions_total[$__rate_interval])) * 60 > 0",
                        "{{reason}}",
                    )
                    .columns_over_time(),
                    graph(
                        "AIJobs by state",
                        "AIJobs that have not ended: `queued` ones wait for GPUs, `reserved` ones \
                         have GPUs that miners are leaving, `starting` ones wait for their pods.",
                        "short",
                        12,
                    )
                    .line(
                        r#"sum by (state) (daylight_ai_jobs{pool=~"$pool|"})"#,
                        "{{state}}",
                    )
                    .stacked()
                    .steps()
                    .colors(&[
                        ("queued", "red"),
                        ("reserved", "orange"),
                        ("starting", "light-blue"),
                        ("running", "blue"),
                    ]),
                    graph(
                        "Pods refused",
                        "Pods that the API server refused per minute, by what they are for and by \
                         the part that refused, in all pools. The status of the Miner or the \
                         AIJob has the API server's words. For an AIJob, each message counts once.",
                        "cpm",
                        12,
                    )
                    .line(
                        "sum by (kind, reason) (rate(daylight_pod_refusals_total[$__rate_interval])) * 60 > 0",
                        "{{kind}}: {{reason}}",
                    )
                    .columns_over_time(),
                ],
            ),
            row(
                "Mining",
                8,
                vec![
                    graph(
                        "Idle recovered",
                        "Share of the GPUs without AI work that mine, by pool.",
                        "percentunit",
                        8,
                    )
                    .line(
                        r#"sum by (pool) (daylight_pool_gpus{pool=~"$pool", state="mining"}) / sum by (pool) (daylight_pool_gpus{pool=~"$pool", state=~"mining|idle|headroom"})"#,
                        "{{pool}}",
                    )
                    .max(1.0),
                    graph(
                        "Mining by registration",
                        "GPUs that the pods of each registration hold in the selected pools.",
                        "short",
                        8,
                    )
                    .line(
                        r#"sum by (namespace, registration) (daylight_assigned_gpus{pool=~"$pool", registration!=""})"#,
                        "{{namespace}}/{{registration}}",
                    )
                    .stacked(),
                    graph(
                        "Grants",
                        "Miner pods that Daylight started per minute, by pool. The rate is \
                         interpolated between scrapes.",
                        "cpm",
                        8,
                    )
                    .line(
                        r#"sum by (pool) (rate(daylight_grants_total{pool=~"$pool"}[$__rate_interval])) * 60"#,
                        "{{pool}}",
                    )
                    .columns_over_time(),
                    graph(
                        "Power against budget",
                        "Power of each pool's miners, and its power budget where one is set. Of \
                         each miner, the larger of declared and measured power counts.",
                        "watt",
                        8,
                    )
                    .line(
                        r#"max by (pool, of) (daylight_pool_watts{pool=~"$pool"})"#,
                        "{{pool}} {{of}}",
                    )
                    .steps(),
                    graph(
                        "Replicas wanted and running",
                        "Replicas that the specs of all miners want, and those that run, in all \
                         pools. What lies between waits for GPUs, or is held back: \
                         `kubectl daylight why miner` names the reason.",
                        "short",
                        8,
                    )
                    .line("sum by (of) (daylight_miner_replicas)", "{{of}}")
                    .steps()
                    .colors(&[("wanted", "text"), ("running", "orange")]),
                    graph(
                        "Mining windows",
                        "1 while a pool's mining windows are open, or it has none.",
                        "short",
                        8,
                    )
                    .line(
                        r#"max by (pool) (daylight_pool_window_open{pool=~"$pool"})"#,
                        "{{pool}}",
                    )
                    .steps()
                    .max(1.0),
                ],
            ),
        ],
    }
}

/// The quantile of a histogram over the last hour.
fn quantile(quantile: &str, buckets: &str) -> String {
    format!("histogram_quantile({quantile}, sum by (le) (rate({buckets}[1h])))")
}

fn pools() -> Panel {
    let mut panel = table("Pools", "The GPUs of each pool by their present state.", "short", 12);
    let mut order = vec!["pool".to_owned()];
    for (index, (state, _)) in STATES.iter().enumerate() {
        let expression =
            format!(r#"sum by (pool) (daylight_pool_gpus{{pool=~"$pool", state="{state}"}})"#);
        panel = panel.column(state, &expression);
        order.push(format!("Value #{}", char::from(b'A' + u8::try_from(index).unwrap_or(0))));
    }
    for bad in ["undeclared", "unlisted"] {
        panel = panel.colored(bad, BAD_ABOVE_ZERO);
    }
    let order: Vec<_> = order.iter().map(String::as_str).collect();
    panel.order(&order)
}
