//! The live cluster as the controller would see it, and the plan that it would make. Nothing is
//! written.

use std::time::Duration;

use daylight_cluster::watch::{self, Settings};
use daylight_cluster::{Cluster, Pending};
use daylight_planner::Planner;
use daylight_planner::explain::Plan;
use kube::Client;
use tokio::time::{Instant, timeout};

use super::error::CommandError;
use crate::clock::wall_clock;
use crate::view::View;

/// The time limit for all lists together.
const LIMIT: Duration = Duration::from_mins(1);

/// The time after which a kind that cannot be listed is given up. The watches would retry it forever.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);

/// The cluster now, and the plan for it.
pub(super) struct LivePlan {
    pub(super) view: View,
    pub(super) plan: Plan,
}

impl LivePlan {
    /// Lists every kind once, and plans.
    pub(super) async fn make(client: &Client, namespace: &str) -> Result<Self, CommandError> {
        // The watches would retry an unreachable API server, and each would report it.
        match client.apiserver_version().await {
            Ok(_) | Err(kube::Error::Api(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let settings = Settings { namespace: namespace.into(), ..Settings::default() };
        let mut watches = watch::start(client, &settings);
        let mut view = View::new(wall_clock()).taking_readings_as_complete();
        let mut deltas = Vec::new();
        let mut events = Vec::new();
        let begun = Instant::now();
        while !view.is_warm() {
            match timeout(GIVE_UP_AFTER, watches.recv_many(&mut events, 4096)).await {
                Ok(0) => {
                    let error = CommandError::new("The watches stopped unexpectedly");
                    return Err(error.remedy("Try again"));
                }
                Ok(_) => {}
                // Lists of a large cluster may take longer between two events.
                Err(_) if begun.elapsed() < LIMIT && is_listing(view.cluster()) => {}
                Err(_) => return Err(incomplete(view.cluster())),
            }
            for event in events.drain(..) {
                view.apply(event, wall_clock(), &mut deltas);
            }
            // Events of the other kinds may keep coming while one cannot be listed.
            if begun.elapsed() > GIVE_UP_AFTER && !is_listing(view.cluster()) && !view.is_warm() {
                return Err(incomplete(view.cluster()));
            }
        }
        let mut planner = Planner::default();
        for delta in deltas {
            planner.apply(delta);
        }
        let plan = planner.plan(wall_clock());
        Ok(Self { view, plan })
    }
}

/// Returns `true` if every kind that is missing is still being listed.
fn is_listing(cluster: &Cluster) -> bool {
    cluster.pending().iter().all(|(_, pending)| *pending == Pending::Listing)
}

fn incomplete(cluster: &Cluster) -> CommandError {
    let pending = cluster.pending().into_iter();
    let pending: Vec<String> = pending.map(|(kind, why)| format!("{kind}: {why}")).collect();
    CommandError::new(format!("Cannot read the cluster ({})", pending.join("; "))).remedy(
        "Install the definitions with `kubectl apply -f crds/`, or request the right to list these \
         kinds",
    )
}
