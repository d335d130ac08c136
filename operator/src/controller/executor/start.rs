//! Beginning a change: build the request, foresee its effect, send it.

use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_crds::{AiJob, GpuPool, LeaseRecord, LeaseRecordSpec};
use daylight_planner::explain::{Grant, ReclaimReason};
use daylight_planner::model::{JobState, Placement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::perform::{self, ChangeOutcome};
use super::{Completion, Executor, MOST_RECLAIMS, Target};
use crate::api_requests;
use crate::api_requests::ApiRequest;
use crate::controller::executor::build::gang;
use crate::controller::executor::build::miner_pod::MinerPod;
use crate::controller::executor::job_status::Transition;
use crate::controller::executor::queue::Change;
use crate::controller::state::State;
use daylight_cluster::names::parts;
use daylight_cluster::slim;
use daylight_cluster::well_known::QUEUE_MANAGER;

impl Executor {
    /// Begins a change. Returns `false` if it is no longer due.
    pub(super) fn start(&mut self, change: Change, state: &mut State) -> bool {
        let started = match &change {
            Change::Grant(grant) => self.start_grant(grant, state),
            Change::Evict { pod, grace, .. } => {
                self.start_eviction(pod, Some(*grace), &change, state)
            }
            // What a stale picture lacks may put the registration in force again.
            Change::EvictLapsed { .. } if state.view.is_stale() => None,
            // The tenant chose the grace period.
            Change::EvictLapsed { pod, .. } => self.start_eviction(pod, None, &change, state),
            Change::Remove { pod } => self.start_removal(pod, state),
            Change::Record { pod } => self.start_record(pod, state),
            Change::MakeGang { job } => self.start_gang(job, state),
            Change::Expire { job } => self.start_expiry(job, state),
            Change::Suspend { job } => self.start_step(job, &Transition::Suspend, state),
            Change::Requeue { job } => self.start_step(job, &Transition::Requeue, state),
            Change::Advance { job, step } => self.start_step(job, step, state),
            Change::Reserve { job, placement, displaced } => {
                let pool = pool_of(state, job, placement);
                let step = Transition::Reserve {
                    placement: placement.clone(),
                    pool: pool.map(|(name, _)| name),
                    displaced: *displaced,
                };
                let started = self.start_step(job, &step, state);
                if started.is_some() {
                    self.reserving.insert(job.clone());
                    self.drains.insert(job.clone(), (state.instant, None));
                }
                started
            }
            Change::Release { job, placement } => {
                let pool = pool_of(state, job, placement);
                let step = Transition::Release {
                    placement: placement.clone(),
                    pool: pool.map(|(name, _)| name),
                };
                self.start_step(job, &step, state)
            }
        };
        let Some(started) = started else {
            if let Change::Reserve { job, .. } = &change {
                self.queue.reserved(job, false);
            }
            return false;
        };
        self.run(started, change);
        true
    }

    fn run(&mut self, started: Started, change: Change) {
        let Started { target, uid, work } = started;
        self.in_flight.insert(target.clone());
        self.running.spawn(async move {
            let outcome = work.await;
            Completion { target, change: Some(change), uid, outcome }
        });
    }

    pub(super) fn start_background(&mut self, target: Target, write: ApiRequest, state: &State) {
        if target != Target::Event && !self.in_flight.insert(target.clone()) {
            return;
        }
        let sender = self.sender.clone();
        let owner = match &target {
            Target::Service(job) => state.view.cluster().ai_job(job).and_then(|job| job.uid()),
            _ => None,
        };
        self.running_background.spawn(async move {
            let outcome = match &target {
                Target::Service(job) => {
                    let (key, uid) = (job.to_string(), owner.unwrap_or_default());
                    perform::make_service(sender, write, key, uid).await
                }
                Target::PriorityClass => perform::priority_class(sender).await,
                _ => perform::make(sender, write).await,
            };
            Completion { target, change: None, uid: Box::default(), outcome }
        });
    }

    fn start_grant(&mut self, grant: &Grant, state: &mut State) -> Option<Started> {
        // What a stale picture lacks may forbid it: a lower cap, a revoked registration.
        if state.view.is_stale()
            || !self.may_grant()
            || state.refusals.blocks(&grant.miner, state.instant)
        {
            return None;
        }
        let miner = state.view.cluster().miner(&grant.miner)?.clone();
        let registration = state.view.cluster().registration(&grant.registration)?;
        let class = registration.spec.activity_class.clone();
        let payout = registration.spec.payout.as_ref();
        let wallet = payout.and_then(|payout| payout.address_commitment.clone());
        let pool = state.view.cluster().pool(&grant.pool)?.clone();
        let built = MinerPod {
            grant,
            miner: &miner,
            class: &class,
            pool: &pool.spec,
            epoch: state.view.next_epoch(&grant.node, grant.slot),
            revision: state.view.revision(&grant.miner)?,
            now: state.now,
            metered: self.limits.metered,
            lease: self.limits.agent_lease,
            wallet: wallet.as_deref(),
        };
        let namespace = parts(&grant.miner).0;
        let key: Name = format!("{namespace}/{}", built.name()).into();
        let target = Target::Pod(key.clone());
        if self.in_flight.contains(&target) || state.view.cluster().pod(&key).is_some() {
            return None;
        }
        let write = api_requests::create_pod(namespace, &built.build());
        let foreseen = serde_json::from_slice(&write.body).ok()?;
        state.view.foresee_pod(foreseen, state.now, &mut state.deltas);
        self.unbound.insert(key.clone());
        let sender = self.sender.clone();
        Some(Started::new(target, "", perform::grant(sender, write, key.to_string())))
    }

    /// Sends the requests again that create pods and have no answer yet, as long as the pods count.
    pub(super) fn ask_again(&mut self, state: &State) {
        if self.unanswered.is_empty() || state.view.is_stale() || !self.sender.may_send() {
            return;
        }
        for (key, (grant, write)) in std::mem::take(&mut self.unanswered) {
            let is_foreseen = |pod: &slim::Pod| pod.uid.is_empty();
            if state.view.cluster().pod(&key).is_some_and(is_foreseen) {
                let work = perform::grant(self.sender.clone(), write, key.to_string());
                self.run(Started::new(Target::Pod(key), "", work), Change::Grant(grant));
            }
        }
    }

    fn start_eviction(
        &mut self,
        key: &Name,
        grace: Option<Duration>,
        change: &Change,
        state: &mut State,
    ) -> Option<Started> {
        let target = Target::Pod(key.clone());
        let pod = state.view.cluster().pod(key)?;
        let ends = pod.is_terminal() || pod.deletion.is_some();
        if ends || pod.uid.is_empty() || !self.is_free(&target, state) {
            return None;
        }
        if let Change::Evict { reason: ReclaimReason::Rebalance, .. } = change
            && state.view.is_stale()
        {
            // The miner that it is for could not start.
            return None;
        }
        let uid = pod.uid.clone();
        state.view.foresee_end(key, &uid, state.now, &mut state.deltas);
        if let Change::Evict { reason, .. } = change {
            // A node that is gone with its pods reports no end of them.
            if self.reclaims.len() >= MOST_RECLAIMS {
                self.reclaims.retain(|pod, _| state.view.cluster().pod(pod).is_some());
            }
            self.reclaims.insert(key.clone(), (*reason, state.instant));
        }
        let sender = self.sender.clone();
        let work = perform::evict(sender, key.to_string(), uid.to_string(), grace);
        Some(Started::new(target, &uid, work))
    }

    fn start_removal(&mut self, key: &Name, state: &mut State) -> Option<Started> {
        let target = Target::Pod(key.clone());
        let pod = state.view.cluster().pod(key)?;
        if pod.deletion.is_some() || pod.uid.is_empty() || !self.is_free(&target, state) {
            return None;
        }
        let uid = pod.uid.clone();
        if !pod.is_terminal() {
            state.view.foresee_end(key, &uid, state.now, &mut state.deltas);
        }
        let sender = self.sender.clone();
        let work = perform::delete(sender, key.to_string(), uid.to_string(), None);
        Some(Started::new(target, &uid, work))
    }

    fn start_record(&mut self, key: &Name, state: &mut State) -> Option<Started> {
        let target = Target::Pod(key.clone());
        let pod = state.view.cluster().pod(key)?;
        if !pod.metered || !pod.is_terminal() || !self.is_free(&target, state) {
            return None;
        }
        let uid = pod.uid.clone();
        let release = api_requests::release_pod(key, &uid, "daylight/leases");
        let Some(record) = lease_record(pod, state) else {
            // The pod held no GPU, so it has no lease to record.
            return Some(Started::new(target, &uid, perform::make(self.sender.clone(), release)));
        };
        let record = api_requests::create_lease_record(pod.namespace(), &record);
        Some(Started::new(target, &uid, perform::record(self.sender.clone(), record, release)))
    }

    fn start_gang(&mut self, key: &Name, state: &mut State) -> Option<Started> {
        let (target, job) = self.idle_job(key, state)?;
        let named =
            job.spec.pool.as_deref().and_then(|name| state.view.cluster().pool(name).cloned());
        let pool = job.spec.pool.as_deref().zip(named.as_deref().map(|pool| &pool.spec));
        let resource = match pool {
            Some((_, pool)) => pool.resource.clone(),
            None => resource_of(state, &job).unwrap_or_default(),
        };
        let namespace = parts(key).0;
        let service = api_requests::create_service(namespace, &gang::service(&job));
        let mut batch = gang::batch_job(&job, pool, &resource);
        if self.limits.metered {
            batch = gang::metered(batch);
        }
        let batch = api_requests::create_job(namespace, &batch);
        let sender = self.sender.clone();
        let uid = uid_of(&job);
        let work = perform::make_gang(sender, service, batch, key.to_string(), uid.to_owned());
        Some(Started::new(target, uid, work))
    }

    fn start_expiry(&mut self, key: &Name, state: &mut State) -> Option<Started> {
        let (target, job) = self.idle_job(key, state)?;
        let write = api_requests::delete_ai_job(key, uid_of(&job));
        Some(Started::new(target, uid_of(&job), perform::make(self.sender.clone(), write)))
    }

    fn start_step(&mut self, key: &Name, step: &Transition, state: &mut State) -> Option<Started> {
        let (target, job) = self.idle_job(key, state)?;
        let batch =
            state.view.cluster().batch_job(key).filter(|batch| *batch.owner == *uid_of(&job));
        // Kueue gave the Job a queue after the plan was made, so the queue decides.
        let decides = matches!(step, Transition::Reserve { .. } | Transition::Release { .. });
        if decides && batch.is_some_and(|batch| batch.queue.is_some()) {
            return None;
        }
        let patch = match step {
            Transition::Release { placement, .. } => {
                let batch = batch.filter(|batch| !batch.deleting)?;
                let pool = pool_of(state, key, placement);
                let pool = pool.as_ref().map(|(name, pool)| (name.as_str(), &pool.spec));
                Some((gang::release(&job, &batch.uid, pool, placement), batch.uid.to_string()))
            }
            Transition::Suspend => {
                batch.map(|batch| (gang::suspend(&batch.uid), batch.uid.to_string()))
            }
            _ => None,
        };
        let patch =
            patch.map(|(patch, uid)| (api_requests::patch_job(key, &patch), key.to_string(), uid));
        if let Some(foreseen) = foreseen(step, key, state) {
            state.view.foresee_state(key, foreseen, state.now, &mut state.deltas);
        }
        let status = step.status(&job, state.now);
        let write = api_requests::apply_status::<AiJob>(key, uid_of(&job), QUEUE_MANAGER, &status);
        Some(Started::new(target, uid_of(&job), perform::step(self.sender.clone(), patch, write)))
    }

    /// Returns `true` if a request for the target may be sent now.
    fn is_free(&self, target: &Target, state: &State) -> bool {
        !self.in_flight.contains(target) && !self.retries.block(target, state.instant)
    }

    fn idle_job(&self, key: &Name, state: &State) -> Option<(Target, std::sync::Arc<AiJob>)> {
        let target = Target::Job(key.clone());
        let held = self.retries.block_job(key, &job_cause(key, state), state.instant);
        if held || self.in_flight.contains(&target) {
            return None;
        }
        let job = state.view.cluster().ai_job(key)?.clone();
        job.metadata.deletion_timestamp.is_none().then_some((target, job))
    }
}

/// The state of an AIJob on which an answer of the API server depends.
pub(super) fn job_cause(key: &str, state: &State) -> (Box<str>, Option<i64>) {
    let cluster = state.view.cluster();
    let uid = cluster.batch_job(key).map(|batch| batch.uid.clone()).unwrap_or_default();
    (uid, cluster.ai_job(key).and_then(|job| job.metadata.generation))
}

/// The record of the GPUs that an ended pod held; `None` if it never had a node, or requests no GPU
/// of a pool.
fn lease_record(pod: &slim::Pod, state: &State) -> Option<LeaseRecord> {
    let time = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0).ok().map(Time);
    let node = pod.node.as_ref()?;
    let (resource, gpus) = state.view.gpus_of(pod)?;
    let lease = pod.lease.as_ref();
    let pool = match lease {
        Some(lease) => Some(lease.pool.clone()),
        None => state.view.pool_of(node, &resource).cloned(),
    };
    let image = pod.work.as_ref().map(|work| &*work.image).or_else(|| Some(&*lease?.image));
    let spec = LeaseRecordSpec {
        pod: pod.name().into(),
        pod_uid: pod.uid.to_string(),
        node: node.to_string(),
        resource: resource.to_string(),
        gpus,
        pool: pool.map(|pool| pool.to_string()),
        activity_class: state.view.cluster().class_of(pod).map(|class| class.to_string()),
        registration: pod.registration.as_ref().map(|name| parts(name).1.to_owned()),
        watts: lease.map(|lease| lease.watts),
        bound_at: pod.bound_at.and_then(time),
        started_at: pod.started_at.and_then(time),
        finished_at: pod.finished_at.and_then(time),
        termination_message: pod.work.as_ref().map(|work| work.message.to_string()),
        image: image.filter(|image| !image.is_empty()).map(ToString::to_string),
        job: state.view.cluster().job_of(pod),
        seen_ended_at: time(state.now)?,
    };
    Some(LeaseRecord::new(&format!("lease-{}", pod.uid), spec))
}

/// A change whose requests are ready to be sent.
struct Started {
    target: Target,
    uid: Box<str>,
    work: std::pin::Pin<Box<dyn Future<Output = ChangeOutcome> + Send>>,
}

impl Started {
    fn new(
        target: Target,
        uid: &str,
        work: impl Future<Output = ChangeOutcome> + Send + 'static,
    ) -> Self {
        Self { target, uid: uid.into(), work: Box::pin(work) }
    }
}

fn uid_of(job: &AiJob) -> &str {
    job.metadata.uid.as_deref().unwrap_or_default()
}

/// The state that the planner takes a job to be in while the step is being written.
fn foreseen(step: &Transition, key: &str, state: &State) -> Option<JobState> {
    let before = state.view.job_state(key)?;
    Some(match step {
        Transition::Reserve { placement, .. } => before.reserved(placement),
        Transition::Release { placement, .. } => before.released(placement, state.now),
        Transition::Requeue => before.requeued(),
        Transition::Suspend => before.suspended(state.now),
        Transition::Run => JobState::Running { since: state.now },
        Transition::Queue
        | Transition::Withdraw { .. }
        | Transition::Adopt
        | Transition::Start
        | Transition::Finish { .. } => return None,
    })
}

/// The resource of a pool that the job's workers request.
pub(crate) fn resource_of(state: &State, job: &AiJob) -> Option<String> {
    let spec = job.spec.template.spec.as_ref()?;
    let containers: Vec<_> =
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    let requested = |resource: &str| {
        containers.iter().filter_map(|container| container.resources.as_ref()).any(|resources| {
            let has = |list: &Option<std::collections::BTreeMap<String, _>>| {
                list.as_ref().is_some_and(|list| list.contains_key(resource))
            };
            has(&resources.limits) || has(&resources.requests)
        })
    };
    let mut known: Vec<&str> =
        state.view.cluster().pools().map(|(_, pool)| pool.spec.resource.as_str()).collect();
    known.sort_unstable();
    known.into_iter().find(|resource| requested(resource)).map(str::to_owned)
}

/// The pool that a job names, or else the pool of its nodes.
fn pool_of(
    state: &State,
    key: &str,
    placement: &[Placement],
) -> Option<(String, std::sync::Arc<GpuPool>)> {
    let job = state.view.cluster().ai_job(key)?;
    let name = match (placement.first(), &job.spec.pool) {
        (_, Some(pool)) => pool.clone(),
        (Some(place), None) => {
            let resource = resource_of(state, job)?;
            state.view.pool_of(&place.node, &resource)?.to_string()
        }
        (None, None) => return None,
    };
    let pool = state.view.cluster().pool(&name)?.clone();
    Some((name, pool))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Bytes;
    use axum::http::{Method, StatusCode};
    use axum::response::{IntoResponse as _, Response};
    use daylight_crds::RecordedJobKind;
    use kube::Client;
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::events::Events;
    use crate::controller::executor::Limits;
    use crate::controller::executor::send::Sender;
    use crate::controller::lease::LeaseValidity;
    use crate::controller::metrics::Metrics;
    use crate::view::tests::TestCluster;
    use crate::view::tests::test_cluster::{
        class, ended, lease, miner, node, patched, pool, registration, running, worker,
    };

    /// An API server that carries out the first creation of a pod late, and never answers it.
    #[derive(Clone, Default)]
    struct LateApi {
        created: Arc<Mutex<Vec<Value>>>,
    }

    impl LateApi {
        fn client(&self) -> Client {
            let api = self.clone();
            let router = Router::new().fallback(move |method: Method, body: Bytes| {
                let api = api.clone();
                async move { api.answer(&method, &body).await }
            });
            Client::new(router, "default")
        }

        async fn answer(&self, method: &Method, body: &[u8]) -> Response {
            let first = {
                let mut created = self.created.lock().unwrap();
                if *method == Method::POST {
                    created.push(serde_json::from_slice(body).unwrap());
                }
                created.first().cloned()
            };
            match (method, self.created.lock().unwrap().len()) {
                (&Method::GET, 2) => {
                    let stored =
                        json!({"metadata": {"uid": "pod-1", "resourceVersion": "1000000"}});
                    return axum::Json(patched(&first.unwrap(), &stored)).into_response();
                }
                (&Method::GET, _) => {
                    return (StatusCode::NOT_FOUND, axum::Json(json!({}))).into_response();
                }
                (_, 1) => {}
                _ => {
                    let status = json!({"kind": "Status", "reason": "AlreadyExists"});
                    return (StatusCode::CONFLICT, axum::Json(status)).into_response();
                }
            }
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_pod_counts_until_its_creation_is_answered_and_is_created_once() {
        const TIMEOUT: Duration = Duration::from_millis(300);
        let objects = [
            pool("a"),
            node("n1", "a"),
            class("pow", "WhenRegistered"),
            registration("reg"),
            miner("m"),
        ];
        let view = TestCluster::with(&objects).view;
        let mut state = State::new(view, Events::new("test"), Metrics::new().unwrap());
        let (api, validity) = (LateApi::default(), LeaseValidity::default());
        let sender = Sender::new(api.client(), validity.clone(), TIMEOUT, Metrics::new().unwrap());
        let mut executor = Executor::new(
            sender,
            Limits {
                concurrency: 8,
                per_second: 0,
                metered: false,
                agent_lease: None,
                failed_pods_kept: Duration::ZERO,
                record_after: Duration::ZERO,
            },
        );
        executor.may_grant = Some(Ok(()));
        let grant = Grant {
            miner: "team/m".into(),
            registration: "team/reg".into(),
            pool: "a".into(),
            node: "n1".into(),
            slot: 0,
            grace: Duration::from_secs(10),
            until: None,
        };
        let pods = |state: &State| {
            let pods = state.view.cluster().pods();
            pods.map(|pod| (pod.key.to_string(), pod.uid.to_string())).collect::<Vec<_>>()
        };

        // The lease lasts for one attempt.
        validity.hold_for_test(TIMEOUT * 7 / 4, std::time::Instant::now());
        assert!(executor.start(Change::Grant(grant), &mut state));
        let ended = executor.next().await;
        executor.take(ended, &mut state).unwrap();
        let [(key, uid)] = &pods(&state)[..] else { panic!("{:?}", pods(&state)) };
        assert_eq!(uid, "", "the pod may exist, so it counts");
        executor.dispatch(&mut state);
        assert!(executor.is_settled(), "nothing is sent without the lease");

        validity.hold_for_test(Duration::from_hours(1), std::time::Instant::now());
        executor.dispatch(&mut state);
        let ended = executor.next().await;
        executor.take(ended, &mut state).unwrap();
        assert_eq!(pods(&state), [(key.clone(), "pod-1".into())]);
        let created = api.created.lock().unwrap();
        assert_eq!(created.len(), 2);
        assert_eq!(created[0], created[1], "both requests create the same pod");
        assert!(executor.unanswered.is_empty());
    }

    fn record_of(pod: &serde_json::Value) -> LeaseRecordSpec {
        let amd = patched(&pool("b"), &json!({"spec": {"resource": "amd.com/gpu"}}));
        let cluster = TestCluster::with(&[pool("a"), amd, node("n1", "a"), pod.clone()]);
        let key = format!(
            "{}/{}",
            pod["metadata"]["namespace"].as_str().unwrap(),
            pod["metadata"]["name"].as_str().unwrap()
        );
        let state = State::new(cluster.view, Events::new("test"), Metrics::new().unwrap());
        lease_record(state.view.cluster().pod(&key).unwrap(), &state).unwrap().spec
    }

    #[test]
    fn the_record_of_an_ai_jobs_worker_has_its_registration_and_all_its_gpus() {
        let registered = json!({
            "metadata": {"labels": {"daylight.dev/registration": "validators"}},
            "spec": {"containers": [{"name": "c", "resources": {
                "requests": {"nvidia.com/gpu": "1", "amd.com/gpu": "2"},
            }}]},
        });
        let pod = patched(&worker("train", 0), &registered);
        let record = record_of(&ended(&running(&pod, "n1"), "Succeeded"));
        assert_eq!(record.registration.as_deref(), Some("validators"));
        assert_eq!((record.gpus, record.watts), (3, None));
        // A label alone shows no AIJob, and its owner is a Job.
        let job = record.job.map(|job| (job.kind, job.name, job.uid));
        assert_eq!(job, Some((RecordedJobKind::Job, "train".into(), "job-train".into())));
    }

    #[test]
    fn the_record_of_a_miners_pod_without_a_message_has_its_image() {
        let status = json!({"status": {"containerStatuses": [{
            "name": "miner", "image": "r.io/miner:1", "state": {"running": {}},
        }]}});
        let pod = patched(&running(&lease("m", "n1", 0), "n1"), &status);
        let record = record_of(&ended(&pod, "Failed"));
        assert_eq!(
            (record.image.as_deref(), record.termination_message),
            (Some("r.io/miner:1"), None)
        );
        assert_eq!((record.registration.as_deref(), record.watts), (Some("reg"), Some(300)));
    }
}
