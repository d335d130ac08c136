//! The cluster as the controller would see it, and the plan it would make, for commands that
//! explain. Only read: nothing is written.

use std::time::Duration;

use daylight_planner::Planner;
use daylight_planner::explain::Plan;
use kube::Client;

use super::Failed;
use crate::clock::wall_clock;
use crate::view::View;
use daylight_cluster::Pending;
use daylight_cluster::watch;
use daylight_cluster::watch::Settings;

/// How long the lists may take.
const WITHIN: Duration = Duration::from_mins(1);
/// How soon a kind that cannot be listed is given up: its watch asks again and again.
const HOPELESS: Duration = Duration::from_secs(3);

/// What there is, and what the planner makes of it.
pub(super) struct Picture {
    pub(super) view: View,
    pub(super) plan: Plan,
}

/// Lists everything once.
pub(super) async fn take(client: &Client, namespace: &str) -> Result<Picture, Failed> {
    let settings = Settings { namespace: namespace.into(), ..Settings::default() };
    let mut watches = watch::start(client, &settings);
    let mut view = View::new(wall_clock()).taking_readings_as_complete();
    let mut deltas = Vec::new();
    let mut events = Vec::new();
    let begun = tokio::time::Instant::now();
    while !view.is_warm() {
        let more = watches.recv_many(&mut events, 4096);
        match tokio::time::timeout(HOPELESS, more).await {
            Ok(0) => return Err(Failed::new("The watches ended unexpectedly; try again.")),
            Ok(_) => {}
            Err(_) if begun.elapsed() < WITHIN && is_under_way(&view) => {}
            Err(_) => return Err(missing(&view)),
        }
        for event in events.drain(..) {
            view.apply(event, wall_clock(), &mut deltas);
        }
        if begun.elapsed() > HOPELESS && !is_under_way(&view) && !view.is_warm() {
            return Err(missing(&view));
        }
    }
    let mut planner = Planner::default();
    for delta in deltas {
        planner.apply(delta);
    }
    let plan = planner.plan(wall_clock());
    Ok(Picture { view, plan })
}

fn is_under_way(view: &View) -> bool {
    view.cluster().pending().iter().all(|(_, pending)| *pending == Pending::Listing)
}

fn missing(view: &View) -> Failed {
    let pending: Vec<String> =
        view.cluster().pending().into_iter().map(|(kind, why)| format!("{kind}: {why}")).collect();
    Failed::new(format!(
        "The cluster cannot be read ({}); install the definitions with `kubectl apply -f crds/`, \
         or ask for the right to list these kinds.",
        pending.join("; ")
    ))
}
