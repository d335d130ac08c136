//! The text of `daylight status`.

use std::fmt::Write as _;

use daylight_base::Name;
use daylight_cluster::names::parts;
use daylight_crds::labels::UNDECLARED;

use super::{Holder, Leader, Pool, SiteStatus, who};
use crate::cli::gpu_map::{self, Use};
use crate::cli::own_objects;
use crate::cli::table::table;

pub(super) fn draw(status: &SiteStatus, map_nodes: usize, width: usize) -> String {
    let mut text = String::new();
    match &status.leader {
        Leader::Elected(name) => {
            let _ = writeln!(text, "Controller: {name} leads.");
        }
        Leader::None => text.push_str(
            "Controller: none leads, so no miner or AIJob starts; AI pods still displace miners.\n",
        ),
        Leader::Unknown => {
            text.push_str("Controller: unknown, since you may not read its Lease.\n");
        }
    }
    if let Some(stop) = &status.emergency_stop {
        let _ = writeln!(text, "EMERGENCY STOP {stop}");
    }
    if let Some(note) = scope(status) {
        let _ = writeln!(text, "{note}");
    }
    let may_list_pools = !status.left_out.iter().any(|kind| kind == own_objects::POOLS);
    if status.pools.is_empty() && may_list_pools {
        text.push_str("There is no GpuPool. Create one, such as examples/20-gpu-pool.yaml.\n");
    }
    if !status.pools.is_empty() {
        text.push('\n');
        text.push_str(&pools(&status.pools));
    }
    if !status.objects.is_empty() {
        text.push('\n');
        text.push_str(&own_objects::draw(&status.objects));
    }
    let who = status.who.as_ref().map(who::draw).unwrap_or_default();
    if !who.is_empty() {
        text.push('\n');
        text.push_str(&who);
    }
    if !status.holders.is_empty() {
        text.push('\n');
        let rows: Vec<Vec<String>> = status.holders.iter().map(holder_row).collect();
        text.push_str(&table(&["namespace", "class", "registration", "pool", "gpus"], &rows));
    }
    if !status.waiting.is_empty() {
        text.push('\n');
        let rows: Vec<Vec<String>> = status
            .waiting
            .iter()
            .map(|one| vec![format!("{}/{}", one.kind, one.name), one.message.clone()])
            .collect();
        text.push_str(&table(&["waiting", "why"], &rows));
    }
    for pool in status.pools.iter().filter(|pool| !pool.map.is_empty()) {
        let _ = write!(text, "\n{}:", pool.name);
        if pool.map.len() > map_nodes {
            let nodes = pool.map.len();
            let _ = writeln!(text, " {nodes} nodes; --map-nodes {nodes} draws them.");
        } else {
            let _ = write!(text, "   {}\n{}", Use::LEGEND, gpu_map::draw(&pool.map, width));
        }
    }
    text
}

/// What is shown, if it is not everything, in one line.
fn scope(status: &SiteStatus) -> Option<String> {
    let left_out = (!status.left_out.is_empty())
        .then(|| format!("Left out, since you may not list them: {}.", status.left_out.join(", ")));
    let namespace = status.namespace.as_ref().map(|one| format!("Namespace {one} only."));
    let notes: Vec<String> = namespace.into_iter().chain(left_out).collect();
    (!notes.is_empty()).then(|| notes.join(" "))
}

fn pools(pools: &[Pool]) -> String {
    let rows: Vec<Vec<String>> = pools.iter().map(row).collect();
    let header = [
        "pool",
        "policy",
        "nodes",
        "gpus",
        "ai",
        "mining",
        "idle",
        "headroom",
        "undeclared",
        "unlisted",
        "unavailable",
        "quarantined",
        "why",
    ];
    table(&header, &rows)
}

fn row(pool: &Pool) -> Vec<String> {
    let gpus = &pool.gpus;
    let mut row = vec![pool.name.to_string(), pool.policy.to_string()];
    let numbers = [
        pool.nodes,
        gpus.total,
        gpus.ai,
        gpus.mining,
        gpus.idle,
        gpus.headroom,
        gpus.undeclared,
        gpus.unlisted,
        gpus.unavailable,
        gpus.quarantined,
    ];
    row.extend(numbers.iter().map(u32::to_string));
    row.push(pool.message.clone());
    row
}

fn holder_row(holder: &Holder) -> Vec<String> {
    let name = |name: &Option<Name>, none: &str| {
        name.as_deref().map_or(none, |key| parts(key).1).to_owned()
    };
    vec![
        holder.namespace.clone(),
        name(&holder.class, UNDECLARED),
        name(&holder.registration, "-"),
        holder.pool.to_string(),
        holder.gpus.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use daylight_crds::{GpuCounts, MiningPolicy};
    use serde_json::Value;

    use super::*;
    use crate::cli::gpu_map::NodeMap;
    use crate::cli::own_objects::OwnObject;
    use crate::cli::status::Waiting;

    #[test]
    fn status_reads_like_a_dashboard() {
        let gpus = GpuCounts { total: 16, ai: 4, mining: 10, idle: 2, ..GpuCounts::default() };
        let map = |node: &str, letters: &[(Use, usize)]| NodeMap {
            node: node.into(),
            gpus: letters.iter().flat_map(|(what, n)| std::iter::repeat_n(*what, *n)).collect(),
        };
        let holder =
            |class: Option<&str>, namespace: &str, registration: Option<&str>, gpus| Holder {
                pool: "hall-1".into(),
                class: class.map(Name::from),
                namespace: namespace.into(),
                registration: registration.map(Name::from),
                gpus,
            };
        let status = SiteStatus {
            leader: Leader::Elected("daylight-controller-0".into()),
            pools: vec![Pool {
                name: "hall-1".into(),
                policy: MiningPolicy::Fill,
                nodes: 2,
                gpus,
                reason: "Filling".into(),
                message: "Idle GPUs go to registered miners.".into(),
                next_change: None,
                map: vec![
                    map("gpu-0", &[(Use::Ai, 4), (Use::Mining, 4)]),
                    map("gpu-1", &[(Use::Mining, 5), (Use::Stopping, 1), (Use::Idle, 2)]),
                ],
            }],
            holders: vec![
                holder(Some("ai-training"), "team-b", None, 4),
                holder(Some("pow-mining"), "team-a", Some("team-a/night-shift"), 10),
            ],
            waiting: vec![Waiting {
                kind: "aijob",
                name: "team-b/llm".into(),
                reason: "WaitingForDrain".into(),
                message: "Waiting for miners to free 1 GPU.".into(),
                since: None,
                earliest: None,
            }],
            ..nothing()
        };
        insta::assert_snapshot!(draw(&status, 200, 80));
    }

    fn nothing() -> SiteStatus {
        SiteStatus {
            at: "2026-11-24T20:31:28Z".into(),
            leader: Leader::Unknown,
            namespace: None,
            left_out: Vec::new(),
            emergency_stop: None,
            pools: Vec::new(),
            who: None,
            holders: Vec::new(),
            objects: Vec::new(),
            waiting: Vec::new(),
        }
    }

    #[test]
    fn a_site_without_leader_or_pools_is_explained() {
        let status = |leader| SiteStatus {
            leader,
            emergency_stop: Some("by ann: smoke".into()),
            ..nothing()
        };
        let rest = "EMERGENCY STOP by ann: smoke\n\
                    There is no GpuPool. Create one, such as examples/20-gpu-pool.yaml.\n";
        for (leader, line, json) in [
            (
                Leader::None,
                "Controller: none leads, so no miner or AIJob starts; AI pods still displace miners.",
                Value::Null,
            ),
            (
                Leader::Unknown,
                "Controller: unknown, since you may not read its Lease.",
                "unknown".into(),
            ),
            (Leader::Elected("one".into()), "Controller: one leads.", "one".into()),
        ] {
            let status = status(leader);
            assert_eq!(draw(&status, 200, 80), format!("{line}\n{rest}"));
            assert_eq!(serde_json::to_value(&status).unwrap()["leader"], json);
        }
    }

    #[test]
    fn one_namespace_is_shown_with_what_is_left_out_in_one_line() {
        let object = OwnObject {
            kind: "miner",
            name: "tenant-a/kaspa".into(),
            state: "1/2".into(),
            gpus: Some(1),
            reason: "WaitingForIdleGpus".into(),
            message: "No node has 1 idle GPU.".into(),
        };
        let status = SiteStatus {
            namespace: Some("tenant-a".into()),
            left_out: vec![own_objects::POOLS.into()],
            objects: vec![object],
            ..nothing()
        };
        assert_eq!(
            draw(&status, 200, 80),
            "Controller: unknown, since you may not read its Lease.\n\
             Namespace tenant-a only. Left out, since you may not list them: gpupools.\n\n\
             OBJECT                STATE  GPUS  WHY\n\
             miner/tenant-a/kaspa  1/2    1     No node has 1 idle GPU.\n"
        );
    }
}
