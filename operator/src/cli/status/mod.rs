//! `daylight status`: pools, who does what, who holds GPUs, what waits, and a map of the GPUs.
//!
//! What an object's status says is shown as the controller wrote it, so that it agrees with `kubectl
//! get` and `daylight why`: a plan made here knows neither how long GPUs have been idle nor which nodes
//! miners failed on. Where no controller leads, or before it has processed an object, the plan speaks.

mod screen;
mod who;

use std::fmt::Display;
use std::time::Duration;

use clap::Args;
use daylight_base::Name;
use daylight_crds::{GpuCounts, GpuPool, MiningPolicy};
use daylight_planner::explain::{PoolReport, Reason};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde::Serialize;
use tokio::time::timeout;

use super::connect::Connection;
use super::error::CommandError;
use super::gpu_map::{self, NodeMap};
use super::live_plan::{LivePlan, Reading};
use super::output::Output;
use super::own_objects::{self, OwnObject};
use super::why::{Explained, Explanation, explanation};
use crate::clock::wall_clock;
use crate::connection;
use crate::controller::status::gpu_counts;
use who::{WhoDoesWhat, who_does_what};

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Lease by which the controllers elect a leader
    #[arg(long, env = "DAYLIGHT_LEASE_NAME", default_value = "daylight-controller")]
    lease_name: String,
    /// Draw the maps of pools with at most this many nodes
    #[arg(long, default_value_t = 200)]
    map_nodes: usize,
    /// Address of the auditor, such as 127.0.0.1:8081, whose metrics have energy and operating time;
    /// by default it is reached through the API server
    #[arg(long, env = "DAYLIGHT_AUDITOR")]
    auditor: Option<String>,
    /// Show all namespaces, even if --namespace names one
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The status of the site.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SiteStatus {
    /// The time at which the cluster was read, by this machine's clock.
    pub(super) at: String,
    pub(super) leader: Leader,
    /// The namespace shown, if it is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    /// The kinds that the user may not list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) left_out: Vec<String>,
    pub(super) emergency_stop: Option<String>,
    pub(super) pools: Vec<Pool>,
    /// Who does AI, who mines, who does both; left out where pods are not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) who: Option<WhoDoesWhat>,
    pub(super) holders: Vec<Holder>,
    /// Registrations, miners and AI jobs, where pods and nodes are not shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) objects: Vec<OwnObject>,
    pub(super) waiting: Vec<Waiting>,
}

/// The controller that leads. As JSON a name, `null` for none, or `unknown`.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "Option<String>")]
pub(super) enum Leader {
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
pub(super) struct Pool {
    name: Name,
    policy: MiningPolicy,
    nodes: u32,
    gpus: GpuCounts,
    reason: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_change: Option<String>,
    map: Vec<NodeMap>,
}

/// An account that holds GPUs.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Holder {
    pool: Name,
    class: Option<Name>,
    namespace: String,
    registration: Option<Name>,
    gpus: u64,
}

/// An object that waits.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waiting {
    kind: &'static str,
    name: Name,
    reason: String,
    message: String,
    /// The time of the last change of its condition Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// The earliest time at which it may change by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest: Option<String>,
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let named = connection.work_namespace.as_deref().filter(|_| !flags.all_namespaces);
    let leader = async || leader(&client, &connection.namespace, &flags.lease_name).await;
    let status = match named {
        Some(namespace) => own_objects::in_namespace(&client, namespace, leader().await?).await?,
        None => match LivePlan::read(&client, &connection.namespace).await? {
            Reading::Complete(live) => {
                let metrics = metrics(&client, &connection.namespace, flags.auditor.as_deref());
                let (metrics, leader) = (metrics.await, leader().await?);
                let who = who_does_what(&live.view, metrics.as_deref().map_err(String::clone));
                SiteStatus { who: Some(who), ..gather(&live, leader) }
            }
            Reading::Forbidden(kinds) => {
                let fallback = !flags.all_namespaces;
                own_objects::as_permitted(&client, kinds, fallback, leader().await?).await?
            }
        },
    };
    let map_nodes = flags.map_nodes;
    flags.output.print(&status, |status| screen::draw(status, map_nodes, width()))
}

/// Time in which the auditor must serve its metrics. The rest of the status does not wait longer.
const METRICS_WITHIN: Duration = Duration::from_secs(5);

/// Reads the auditor's metrics at `auditor`, or through the API server.
///
/// # Errors
///
/// Why they cannot be read, in one sentence.
async fn metrics(
    client: &Client,
    namespace: &str,
    auditor: Option<&str>,
) -> Result<String, String> {
    let (client, path, at) = if let Some(address) = auditor {
        let url =
            if address.contains("://") { address.into() } else { format!("http://{address}") };
        let uri = url.parse::<http::Uri>();
        let uri = uri.map_err(|error| format!("--auditor {address} is no address ({error})."))?;
        let direct = connection::client(&kube::Config::new(uri));
        let direct = direct.map_err(|error| format!("the auditor at {address}: {error}."))?;
        (direct, "/metrics".to_owned(), address.to_owned())
    } else {
        let service = format!("/api/v1/namespaces/{namespace}/services/daylight-auditor:8081");
        (client.clone(), format!("{service}/proxy/metrics"), "Service daylight-auditor".into())
    };
    let cannot = |why: &dyn Display| {
        format!(
            "the auditor's metrics cannot be read from {at} ({why}). Name its address with --auditor."
        )
    };
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| cannot(&error))?;
    match timeout(METRICS_WITHIN, client.request_text(request)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(kube::Error::Api(status))) => Err(cannot(&status.message)),
        Ok(Err(error)) => Err(cannot(&error)),
        Err(_) => Err(cannot(&"no answer in time")),
    }
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

/// The status of an object as the controller wrote it; `None` if none leads that could have written it,
/// or it has not processed the object.
fn written<K: Explained>(object: &K, name: &str, leader: &Leader) -> Option<Explanation> {
    if matches!(leader, Leader::None) {
        return None;
    }
    explanation(object, name).filter(|explanation| explanation.caveat.is_none())
}

impl Pool {
    /// The pool as its status has it; `None` if that has no figures.
    pub(super) fn written(pool: &GpuPool, name: &Name, leader: &Leader) -> Option<Self> {
        let explanation = written(pool, name, leader)?;
        let status = pool.status.as_ref()?;
        Some(Self {
            name: name.clone(),
            policy: status.policy.unwrap_or(pool.spec.mining.policy),
            nodes: status.nodes.unwrap_or_default(),
            gpus: status.gpus?,
            reason: explanation.reason,
            message: explanation.message,
            next_change: explanation.earliest,
            map: Vec::new(),
        })
    }

    fn planned(pool: &GpuPool, report: &PoolReport) -> Self {
        Self {
            name: report.pool.clone(),
            policy: pool.spec.mining.policy,
            nodes: report.nodes,
            gpus: gpu_counts(&report.gpus),
            reason: report.mining.code().into(),
            message: report.mining.to_string(),
            next_change: report.mining.earliest().map(|at| at.to_string()),
            map: Vec::new(),
        }
    }
}

fn gather(live: &LivePlan, leader: Leader) -> SiteStatus {
    let LivePlan { view, plan } = live;
    let snapshot = view.snapshot();
    let now = wall_clock();
    let waiting = waiting(live, &leader);
    let pools = plan
        .pools
        .iter()
        .filter_map(|report| {
            let pool = view.cluster().pool(&report.pool)?;
            let resource = &pool.spec.resource;
            let map = gpu_map::of_pool(&snapshot, &report.pool, resource, now);
            let pool = Pool::written(pool, &report.pool, &leader)
                .unwrap_or_else(|| Pool::planned(pool, report));
            Some(Pool { map, ..pool })
        })
        .collect();
    let mut holders: Vec<Holder> = view
        .assigned()
        .map(|(held, gpus)| Holder {
            pool: held.pool.clone(),
            class: held.class.clone(),
            namespace: held.namespace.to_string(),
            registration: held.registration.clone(),
            gpus,
        })
        .collect();
    holders.sort();
    let stop = view.emergency_stop();
    SiteStatus {
        at: now.to_string(),
        leader,
        namespace: None,
        left_out: Vec::new(),
        emergency_stop: stop.map(|stop| format!("by {}: {}", stop.by, stop.reason)),
        pools,
        who: None,
        holders,
        objects: Vec::new(),
        waiting,
    }
}

fn waiting(live: &LivePlan, leader: &Leader) -> Vec<Waiting> {
    let LivePlan { view, plan } = live;
    let cluster = view.cluster();
    let jobs = plan.jobs.iter().filter_map(|report| {
        let (name, job) = (&report.job, cluster.ai_job(&report.job));
        waits("aijob", name, job.and_then(|job| written(&**job, name, leader)), &report.reason)
    });
    let pods = plan
        .waiting_pods
        .iter()
        .filter_map(|report| waits("pod", &report.pod, None, &report.reason));
    let registrations = plan.registrations.iter().filter_map(|report| {
        let name = &report.registration;
        let written = cluster.registration(name).and_then(|one| written(&**one, name, leader));
        waits("registration", name, written, &report.state)
    });
    let miners = plan.miners.iter().filter_map(|report| {
        let name = &report.miner;
        let written = cluster.miner(name).and_then(|one| written(&**one, name, leader));
        waits("miner", name, written, &report.reason)
    });
    jobs.chain(pods).chain(registrations).chain(miners).collect()
}

/// The reasons of objects that have what they want, or have ended.
const SETTLED: [&str; 6] =
    ["Running", "Finished", "Succeeded", "Failed", "NothingWanted", "Active"];

/// Returns the object as waiting, unless it has what it wants: by its status, or else by the plan.
fn waits(
    kind: &'static str,
    name: &Name,
    written: Option<Explanation>,
    planned: &Reason,
) -> Option<Waiting> {
    let waiting = match written {
        Some(Explanation { reason, message, earliest, since, .. }) => {
            Waiting { kind, name: name.clone(), reason, message, since, earliest }
        }
        None => Waiting {
            kind,
            name: name.clone(),
            reason: planned.code().into(),
            message: planned.to_string(),
            since: None,
            earliest: planned.earliest().map(|at| at.to_string()),
        },
    };
    (!SETTLED.contains(&&*waiting.reason)).then_some(waiting)
}

#[cfg(test)]
mod tests {
    use daylight_base::Timestamp;

    use super::*;

    /// A pool as the controller left it, which observes and knows how long its GPUs are idle.
    fn observing() -> GpuPool {
        let pool = serde_json::json!({
            "metadata": {"name": "hall-1", "generation": 2},
            "spec": {
                "nodeSelector": {}, "resource": "nvidia.com/gpu",
                "site": {"name": "site-1", "timeZone": "Etc/UTC"},
            },
            "status": {
                "observedGeneration": 2, "nodes": 4, "policy": "Observe", "reason": "Observing",
                "message": "With Fill, miners would start on 30 GPUs now.",
                "gpus": {"total": 32, "idle": 32},
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Accepted", "message": "",
                    "lastTransitionTime": "2026-11-24T20:31:28Z",
                }],
            },
        });
        serde_json::from_value(pool).unwrap()
    }

    #[test]
    fn a_pool_is_shown_as_the_controller_wrote_it() {
        let name: Name = "hall-1".into();
        let leader = Leader::Elected("daylight-controller-0".into());
        let pool = Pool::written(&observing(), &name, &leader).unwrap();
        assert_eq!(pool.message, "With Fill, miners would start on 30 GPUs now.");
        assert_eq!((pool.nodes, pool.gpus.total, pool.gpus.idle), (4, 32, 32));
        // What an absent controller wrote, or what it wrote before an edit, is not.
        assert!(Pool::written(&observing(), &name, &Leader::None).is_none());
        let mut edited = observing();
        edited.metadata.generation = Some(3);
        assert!(Pool::written(&edited, &name, &leader).is_none());
    }

    #[test]
    fn what_has_all_it_wants_does_not_wait() {
        let name: Name = "team-a/night".into();
        let active = Reason::Active { until: Timestamp(0) };
        for reason in [Reason::Running, Reason::Finished, Reason::NothingWanted, active] {
            assert!(waits("miner", &name, None, &reason).is_none(), "{reason}");
        }
        let planned = waits("pod", &name, None, &Reason::SchedulerDecides).unwrap();
        assert_eq!(planned.reason, "SchedulerDecides");
        // Only the controller knows that the API server refuses a miner's pods.
        let status = serde_json::json!({
            "metadata": {"name": "night", "namespace": "team-a", "generation": 1},
            "spec": {"registration": "night", "replicas": 1, "image": "miner"},
            "status": {
                "observedGeneration": 1, "reason": "PodsRefused", "message": "exceeded quota",
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "PodsRefused", "message": "",
                    "lastTransitionTime": "2026-11-24T20:31:28Z",
                }],
            },
        });
        let miner: daylight_crds::Miner = serde_json::from_value(status).unwrap();
        let written = written(&miner, &name, &Leader::Unknown);
        let refused = waits("miner", &name, written, &Reason::Running).unwrap();
        assert_eq!((&*refused.reason, &*refused.message), ("PodsRefused", "exceeded quota"));
        assert_eq!(refused.since.as_deref(), Some("2026-11-24T20:31:28Z"));
    }
}
