//! `daylight status`.

use std::fmt::Write as _;

use clap::Args;
use daylight_base::Name;
use daylight_crds::MiningPolicy;
use daylight_planner::explain::PoolGpus;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde::Serialize;

use super::Failed;
use super::connect::Connection;
use super::gpu_map::{self, NodeMap, Use};
use super::output::Output;
use super::picture::{self, Picture};
use super::table::table;
use crate::clock::wall_clock;
use daylight_cluster::well_known::PODS_REFUSED;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Lease by which the controllers elect a leader
    #[arg(long, env = "DAYLIGHT_LEASE_NAME", default_value = "daylight-controller")]
    lease_name: String,
    /// Draw the maps of pools with at most this many nodes
    #[arg(long, default_value_t = 200)]
    map_nodes: usize,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Everything that is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    leader: Option<String>,
    emergency_stop: Option<String>,
    pools: Vec<Pool>,
    holders: Vec<Holder>,
    waiting: Vec<Waiting>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    name: Name,
    policy: MiningPolicy,
    nodes: u32,
    gpus: PoolGpus,
    reason: String,
    message: String,
    map: Vec<NodeMap>,
}

/// Who holds GPUs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Holder {
    pool: Name,
    class: Option<Name>,
    namespace: String,
    registration: Option<Name>,
    gpus: u32,
}

/// Who wants more than there is.
#[derive(Debug, Serialize)]
struct Waiting {
    kind: &'static str,
    name: Name,
    reason: String,
    message: String,
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), Failed> {
    let client = connection.client().await?;
    let picture = picture::take(&client, &connection.namespace).await?;
    let leader = leader(&client, &connection.namespace, &flags.lease_name).await?;
    let status = gather(&picture, leader);
    let most = flags.map_nodes;
    flags.output.print(&status, |status| draw(status, most, width()))
}

/// The columns of the terminal.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(100)
}

async fn leader(client: &Client, namespace: &str, name: &str) -> Result<Option<String>, Failed> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = match leases.get_opt(name).await {
        Ok(lease) => lease.and_then(|lease| lease.spec),
        // Who may not see it is told nothing of it.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(Some("unknown".into())),
        Err(error) => return Err(error.into()),
    };
    let current = lease.filter(|lease| {
        let renewed = lease.renew_time.as_ref().map(|at| at.0);
        let lasts =
            jiff::SignedDuration::from_secs(lease.lease_duration_seconds.unwrap_or(0).into());
        renewed.is_some_and(|at| jiff::Timestamp::now().duration_since(at) < lasts)
    });
    Ok(current.and_then(|lease| lease.holder_identity))
}

fn gather(picture: &Picture, leader: Option<String>) -> Status {
    let Picture { view, plan } = picture;
    let snapshot = view.snapshot();
    let now = wall_clock();
    let pools = plan
        .pools
        .iter()
        .filter_map(|report| {
            let pool = view.cluster().pool(&report.pool)?;
            let resource = &pool.spec.resource;
            Some(Pool {
                name: report.pool.clone(),
                policy: pool.spec.mining.policy,
                nodes: report.nodes,
                gpus: report.gpus,
                reason: report.mining.code().into(),
                message: report.mining.to_string(),
                map: gpu_map::of_pool(&snapshot, &report.pool, resource, now),
            })
        })
        .collect();
    let mut holders: Vec<Holder> = view
        .assigned()
        .into_iter()
        .map(|(held, gpus)| Holder {
            pool: held.pool,
            class: held.class,
            namespace: held.namespace.to_string(),
            registration: held.registration,
            gpus,
        })
        .collect();
    holders.sort();
    let stop = view.emergency_stop();
    Status {
        leader,
        emergency_stop: stop.map(|stop| format!("by {}: {}", stop.by, stop.reason)),
        pools,
        holders,
        waiting: waiting(picture),
    }
}

fn waiting(picture: &Picture) -> Vec<Waiting> {
    let plan = &picture.plan;
    let entry = |kind, name: &Name, reason: &daylight_planner::explain::Reason| Waiting {
        kind,
        name: name.clone(),
        reason: reason.code().into(),
        message: reason.to_string(),
    };
    let content = ["Running", "Finished", "NothingWanted", "Active"];
    let waits = |waiting: &Waiting| !content.contains(&waiting.reason.as_str());
    let registrations = plan
        .registrations
        .iter()
        .map(|report| entry("registration", &report.registration, &report.state));
    let miners = plan.miners.iter().map(|report| {
        let name = &report.miner;
        let status = picture.view.cluster().miner(name).and_then(|miner| miner.status.as_ref());
        let refused = status.and_then(|status| {
            refused("miner", name, status.reason.as_ref(), status.message.as_ref())
        });
        refused.unwrap_or_else(|| entry("miner", &report.miner, &report.reason))
    });
    let jobs = plan.jobs.iter().map(|report| {
        let name = &report.job;
        let status = picture.view.cluster().ai_job(name).and_then(|job| job.status.as_ref());
        let refused = status.and_then(|status| {
            refused("aijob", name, status.reason.as_ref(), status.message.as_ref())
        });
        refused.unwrap_or_else(|| entry("aijob", &report.job, &report.reason))
    });
    let pods = plan.waiting_pods.iter().map(|report| entry("pod", &report.pod, &report.reason));
    jobs.chain(pods).chain(registrations).chain(miners).filter(waits).collect()
}

/// What a plan made here cannot know of a miner or AIJob, and the controller wrote down: the API
/// server does not take its pods.
fn refused(
    kind: &'static str,
    name: &Name,
    reason: Option<&String>,
    message: Option<&String>,
) -> Option<Waiting> {
    let reason = reason.filter(|reason| *reason == PODS_REFUSED)?.clone();
    Some(Waiting {
        kind,
        name: name.clone(),
        reason,
        message: message.cloned().unwrap_or_default(),
    })
}

fn draw(status: &Status, most: usize, width: usize) -> String {
    let mut text = String::new();
    match &status.leader {
        Some(leader) => {
            let _ = writeln!(text, "Controller: {leader} leads.");
        }
        None => text.push_str(
            "Controller: none leads, so nothing is assigned; AI pods run and displace miners.\n",
        ),
    }
    if let Some(stop) = &status.emergency_stop {
        let _ = writeln!(text, "EMERGENCY STOP {stop}");
    }
    if status.pools.is_empty() {
        text.push_str("There is no GpuPool yet; examples/ has one to begin with.\n");
        return text;
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = status.pools.iter().map(row).collect();
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
        "unavailable",
        "quarantined",
        "why",
    ];
    text.push_str(&table(&header, &rows));
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
    for pool in &status.pools {
        let _ = write!(text, "\n{}:", pool.name);
        if pool.map.len() > most {
            let _ = writeln!(
                text,
                " {} nodes; --map-nodes {} draws them.",
                pool.map.len(),
                pool.map.len()
            );
        } else {
            let _ = write!(text, "   {}\n{}", Use::LEGEND, gpu_map::draw(&pool.map, width));
        }
    }
    text
}

fn row(pool: &Pool) -> Vec<String> {
    let gpus = &pool.gpus;
    let mut row = vec![pool.name.to_string(), format!("{:?}", pool.policy)];
    let numbers = [
        pool.nodes,
        gpus.total,
        gpus.ai,
        gpus.mining,
        gpus.idle,
        gpus.headroom,
        gpus.undeclared,
        gpus.unavailable,
        gpus.quarantined,
    ];
    row.extend(numbers.iter().map(u32::to_string));
    row.push(pool.message.clone());
    row
}

fn holder_row(holder: &Holder) -> Vec<String> {
    let name = |name: &Option<Name>, none: &str| {
        name.as_deref().map_or(none, |key| daylight_cluster::names::parts(key).1).to_owned()
    };
    vec![
        holder.namespace.clone(),
        name(&holder.class, "undeclared"),
        name(&holder.registration, "-"),
        holder.pool.to_string(),
        holder.gpus.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_reads_like_a_dashboard() {
        let gpus = PoolGpus { total: 16, ai: 4, mining: 10, idle: 2, ..PoolGpus::default() };
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
        let status = Status {
            leader: Some("daylight-controller-0".into()),
            emergency_stop: None,
            pools: vec![Pool {
                name: "hall-1".into(),
                policy: MiningPolicy::Fill,
                nodes: 2,
                gpus,
                reason: "Filling".into(),
                message: "Idle GPUs go to registered miners.".into(),
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
                message: "Waits for 1 miner to stop.".into(),
            }],
        };
        insta::assert_snapshot!(draw(&status, 200, 80));
    }
}
