//! `daylight status`: pools, who holds GPUs, what waits, and a map of the GPUs.

use std::fmt::Write as _;

use clap::Args;
use daylight_base::Name;
use daylight_crds::MiningPolicy;
use daylight_planner::explain::{PoolGpus, Reason};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde::Serialize;

use super::connect::Connection;
use super::error::CommandError;
use super::gpu_map::{self, NodeMap, Use};
use super::live_plan::LivePlan;
use super::output::Output;
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

/// The status of the site.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SiteStatus {
    leader: Leader,
    emergency_stop: Option<String>,
    pools: Vec<Pool>,
    holders: Vec<Holder>,
    waiting: Vec<Waiting>,
}

/// The controller that leads. As JSON a name, `null` for none, or `unknown`.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "Option<String>")]
enum Leader {
    Elected(String),
    None,
    /// The user may not read the Lease.
    Unknown,
}

impl From<Leader> for Option<String> {
    fn from(leader: Leader) -> Self {
        match leader {
            Leader::Elected(name) => Some(name),
            Leader::None => None,
            Leader::Unknown => Some("unknown".into()),
        }
    }
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

/// An account that holds GPUs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Holder {
    pool: Name,
    class: Option<Name>,
    namespace: String,
    registration: Option<Name>,
    gpus: u32,
}

/// An object that waits.
#[derive(Debug, Serialize)]
struct Waiting {
    kind: &'static str,
    name: Name,
    reason: String,
    message: String,
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let live = LivePlan::make(&client, &connection.namespace).await?;
    let leader = leader(&client, &connection.namespace, &flags.lease_name).await?;
    let status = gather(&live, leader);
    let map_nodes = flags.map_nodes;
    flags.output.print(&status, |status| draw(status, map_nodes, width()))
}

/// Returns the number of columns of the terminal.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(100)
}

async fn leader(client: &Client, namespace: &str, name: &str) -> Result<Leader, CommandError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = match leases.get_opt(name).await {
        Ok(lease) => lease.and_then(|lease| lease.spec),
        // The rest of the status is of use without the right to read the Lease.
        Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(Leader::Unknown),
        Err(error) => return Err(error.into()),
    };
    // Compares this machine's clock with the leader's, which is good enough to be shown.
    let current = lease.filter(|lease| {
        let renewed = lease.renew_time.as_ref().map(|at| at.0);
        let lasts =
            jiff::SignedDuration::from_secs(lease.lease_duration_seconds.unwrap_or(0).into());
        renewed.is_some_and(|at| jiff::Timestamp::now().duration_since(at) < lasts)
    });
    Ok(current.and_then(|lease| lease.holder_identity).map_or(Leader::None, Leader::Elected))
}

fn gather(live: &LivePlan, leader: Leader) -> SiteStatus {
    let LivePlan { view, plan } = live;
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
    SiteStatus {
        leader,
        emergency_stop: stop.map(|stop| format!("by {}: {}", stop.by, stop.reason)),
        pools,
        holders,
        waiting: waiting(live),
    }
}

fn waiting(live: &LivePlan) -> Vec<Waiting> {
    let LivePlan { view, plan } = live;
    let jobs = plan.jobs.iter().filter_map(|report| {
        let job = view.cluster().ai_job(&report.job);
        let refused = job.and_then(|job| job.status.as_ref()).and_then(|status| {
            refused("aijob", &report.job, status.reason.as_deref(), status.message.as_deref())
        });
        refused.or_else(|| waits("aijob", &report.job, &report.reason))
    });
    let pods =
        plan.waiting_pods.iter().filter_map(|report| waits("pod", &report.pod, &report.reason));
    let registrations = plan
        .registrations
        .iter()
        .filter_map(|report| waits("registration", &report.registration, &report.state));
    let miners = plan.miners.iter().filter_map(|report| {
        let miner = view.cluster().miner(&report.miner);
        let refused = miner.and_then(|miner| miner.status.as_ref()).and_then(|status| {
            refused("miner", &report.miner, status.reason.as_deref(), status.message.as_deref())
        });
        refused.or_else(|| waits("miner", &report.miner, &report.reason))
    });
    jobs.chain(pods).chain(registrations).chain(miners).collect()
}

/// Returns the object as waiting, unless its reason is that it has what it wants.
fn waits(kind: &'static str, name: &Name, reason: &Reason) -> Option<Waiting> {
    match reason {
        Reason::Running | Reason::Finished | Reason::NothingWanted | Reason::Active { .. } => None,
        reason => Some(Waiting {
            kind,
            name: name.clone(),
            reason: reason.code().into(),
            message: reason.to_string(),
        }),
    }
}

/// Returns a miner or AIJob as waiting if the API server refuses its pods. Only the controller that
/// tried to create them knows that, and wrote it into the status; a plan made here does not.
fn refused(
    kind: &'static str,
    name: &Name,
    reason: Option<&str>,
    message: Option<&str>,
) -> Option<Waiting> {
    let reason = reason.filter(|reason| *reason == PODS_REFUSED)?.to_owned();
    let message = message.unwrap_or_default().to_owned();
    Some(Waiting { kind, name: name.clone(), reason, message })
}

fn draw(status: &SiteStatus, map_nodes: usize, width: usize) -> String {
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
    if status.pools.is_empty() {
        text.push_str("There is no GpuPool. Create one, such as examples/20-gpu-pool.yaml.\n");
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
        if pool.map.len() > map_nodes {
            let nodes = pool.map.len();
            let _ = writeln!(text, " {nodes} nodes; --map-nodes {nodes} draws them.");
        } else {
            let _ = write!(text, "   {}\n{}", Use::LEGEND, gpu_map::draw(&pool.map, width));
        }
    }
    text
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
    use daylight_base::Timestamp;
    use serde_json::Value;

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
        let status = SiteStatus {
            leader: Leader::Elected("daylight-controller-0".into()),
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
                message: "Waiting for miners to free 1 GPU.".into(),
            }],
        };
        insta::assert_snapshot!(draw(&status, 200, 80));
    }
    #[test]
    fn a_site_without_leader_or_pools_is_explained() {
        let status = |leader| SiteStatus {
            leader,
            emergency_stop: Some("by ann: smoke".into()),
            pools: Vec::new(),
            holders: Vec::new(),
            waiting: Vec::new(),
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
    fn what_has_all_it_wants_does_not_wait() {
        let name: Name = "team-a/night".into();
        let active = Reason::Active { until: Timestamp(0) };
        for reason in [Reason::Running, Reason::Finished, Reason::NothingWanted, active] {
            assert!(waits("miner", &name, &reason).is_none(), "{reason}");
        }
        assert!(waits("miner", &name, &Reason::SchedulerDecides).is_some());
        assert!(refused("miner", &name, Some("Running"), None).is_none());
        let refused = refused("miner", &name, Some("PodsRefused"), Some("exceeded quota")).unwrap();
        assert_eq!((&*refused.reason, &*refused.message), ("PodsRefused", "exceeded quota"));
    }
}
