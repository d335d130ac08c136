//! The ends of miners' containers, including those of pods that no longer exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinHandle;

/// The end of a container.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) miner: String,
    pub(super) exit_code: i32,
    /// The record in its termination message.
    pub(super) record: Value,
}

impl End {
    /// Whether it ended by itself, in time, after a request to stop.
    pub(super) fn in_good_order(&self) -> bool {
        self.exit_code == 0 && self.record["reason"] == "Drained"
    }

    pub(super) fn accepted(&self) -> u64 {
        self.record["sharesAccepted"].as_str().and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

/// The watch on miners' pods; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ends {
    seen: Arc<Mutex<BTreeMap<String, End>>>,
    task: JoinHandle<()>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ends {
    pub(super) fn watch(client: Client) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let ends = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let config = watcher::Config::default().labels(LABEL);
            let mut events = std::pin::pin!(watcher(Api::<Pod>::all(client), config));
            loop {
                match events.try_next().await {
                    Ok(Some(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod))) => {
                        if let Some(end) = end(&pod) {
                            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                            ends.insert(pod.name_any(), end);
                        }
                    }
                    Ok(Some(Event::Init | Event::InitDone)) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                    Ok(None) => return,
                }
            }
        });
        Self { seen, task }
    }

    /// The ends of a miner's containers so far.
    pub(super) fn of(&self, miner: &str) -> Vec<End> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values().filter(|end| end.miner == miner).cloned().collect()
    }
}

const LABEL: &str = "daylight.dev/miner";

fn end(pod: &Pod) -> Option<End> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let end = status.state.as_ref()?.terminated.as_ref()?;
    let message = end.message.as_deref().unwrap_or_default();
    Some(End {
        miner: pod.labels().get(LABEL)?.clone(),
        exit_code: end.exit_code,
        record: serde_json::from_str(message.trim()).unwrap_or_default(),
    })
}
