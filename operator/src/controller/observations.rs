//! Acting on what the view observed: metrics, refusals, and the end of reclaims.

use daylight_base::Name;
use daylight_cluster::slim::PodFailure;

use super::executor::Executor;
use super::refusals::Cause;
use super::state::State;
use crate::view::Observation;

/// Takes in one observation.
pub fn act_on(observation: &Observation, state: &mut State, executor: &mut Executor) {
    match observation {
        Observation::AiPodBound { pod, waited, .. } => {
            // Workers of AIJobs wait as a gang, which is measured when all of it is bound.
            let worker = state.view.cluster().pod(pod).is_some_and(|pod| pod.ai_job.is_some());
            if !worker {
                let for_miners = state.waits.pod_bound(pod, state.now);
                state.metrics.observe_ai_wait("Pod", *waited);
                state.metrics.observe_ai_wait_for_miners("Pod", for_miners);
            }
        }
        Observation::MinerEnded { pod, miner, failed, failure, ran, .. } => {
            if let Some(ran) = ran {
                state.refusals.pod_ran(miner, *ran);
            }
            if *failed {
                let why = failure.as_ref().map_or("", |failure| &*failure.sentence);
                tracing::info!(%pod, why, "A miner's pod failed by itself.");
            }
            if let Some(failure) = failure {
                pod_failed(miner, failure, state);
            }
            executor.ended(pod, state);
        }
        Observation::MinerStuck { miner, failure } => pod_failed(miner, failure, state),
        Observation::MinerReady { miner } => state.refusals.pod_ready(miner, state.instant),
        Observation::AiJobGone { job } => executor.forget_job(job),
    }
}

/// The miner is suspected first: it gets no more GPUs for a while, unless the failure is not one that
/// it would have on any node, and another of its replicas works. Then only the node is closed to it,
/// which the view has done already.
fn pod_failed(miner: &Name, failure: &PodFailure, state: &mut State) {
    state.refusals.pod_ended(miner);
    if failure.own || !works(miner, state) {
        let sentence = format!("A replica failed: {}.", failure.sentence);
        state.refuse(miner, Cause::Container, &failure.word, &sentence);
    }
    if !failure.own {
        state.refusals.pod_failed(miner, failure);
    }
}

fn works(miner: &Name, state: &State) -> bool {
    state.view.cluster().pods().any(|pod| {
        let of_it = pod.lease.as_ref().is_some_and(|lease| lease.miner == *miner);
        of_it && pod.ready && !pod.is_terminal() && pod.deletion.is_none()
    })
}
