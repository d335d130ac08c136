//! The live cluster as the controller would see it, and the plan that it would make. Nothing is
//! written.

use std::collections::BTreeMap;
use std::time::Duration;

use daylight_cluster::watch::{self, Settings};
use daylight_cluster::{Cluster, Kind, Pending};
use daylight_planner::Planner;
use daylight_planner::explain::Plan;
use kube::Client;
use tokio::time::{Instant, timeout};

use super::error::{CommandError, ErrorCode};
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

/// The result of reading the cluster.
pub(super) enum Reading {
    Complete(Box<LivePlan>),
    /// The user may not list these kinds, and nothing else is wrong.
    Forbidden(Vec<Kind>),
}

impl LivePlan {
    /// Lists every kind once, and plans.
    pub(super) async fn read(client: &Client, namespace: &str) -> Result<Reading, CommandError> {
        // The watches would retry an unreachable API server, and rejected credentials.
        match client.apiserver_version().await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code != 401 => {}
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
                Err(_) => return unread(view.cluster()),
            }
            for event in events.drain(..) {
                view.apply(event, wall_clock(), &mut deltas);
            }
            // No retry gives the user a right.
            if is_forbidden(view.cluster()) {
                return unread(view.cluster());
            }
            // Events of the other kinds may keep coming while one cannot be listed.
            if begun.elapsed() > GIVE_UP_AFTER && !is_listing(view.cluster()) && !view.is_warm() {
                return unread(view.cluster());
            }
        }
        let mut planner = Planner::default();
        for delta in deltas {
            planner.apply(delta);
        }
        let plan = planner.plan(wall_clock());
        Ok(Reading::Complete(Box::new(Self { view, plan })))
    }

    /// Lists every kind once, and plans; an error if the user may not list one.
    pub(super) async fn make(client: &Client, namespace: &str) -> Result<Box<Self>, CommandError> {
        match Self::read(client, namespace).await? {
            Reading::Complete(live) => Ok(live),
            Reading::Forbidden(kinds) => {
                let pending = kinds.into_iter().map(|kind| (kind, Pending::Forbidden)).collect();
                Err(incomplete(pending))
            }
        }
    }
}

/// Returns `true` if every kind that is missing is still being listed.
fn is_listing(cluster: &Cluster) -> bool {
    cluster.pending().iter().all(|(_, pending)| *pending == Pending::Listing)
}

/// Returns `true` if kinds are missing, and the user may list none of them.
fn is_forbidden(cluster: &Cluster) -> bool {
    let pending = cluster.pending();
    !pending.is_empty() && pending.iter().all(|(_, pending)| *pending == Pending::Forbidden)
}

fn unread(cluster: &Cluster) -> Result<Reading, CommandError> {
    let pending = cluster.pending();
    if is_forbidden(cluster) {
        return Ok(Reading::Forbidden(pending.into_iter().map(|(kind, _)| kind).collect()));
    }
    Err(incomplete(pending))
}

/// The error for kinds that cannot be listed: one sentence, with each cause once.
fn incomplete(pending: Vec<(Kind, Pending)>) -> CommandError {
    let (code, remedy) = if pending.iter().any(|(_, one)| *one == Pending::NotInstalled) {
        (ErrorCode::NotFound, "Install the definitions with the chart daylight-crds")
    } else if pending.iter().all(|(_, one)| *one == Pending::Forbidden) {
        (ErrorCode::Forbidden, "Ask an administrator for the right to list and watch them")
    } else {
        (ErrorCode::Incomplete, "Try again")
    };
    let mut causes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (kind, pending) in pending {
        let cause = match pending {
            Pending::Listing => "the list was not complete in time".into(),
            Pending::NotInstalled => "not installed".into(),
            Pending::Forbidden => "you may not list and watch them".into(),
            Pending::Silent => "the API server stopped answering".into(),
            Pending::Failed(cause) => cause,
        };
        causes.entry(cause).or_default().push(kind.to_string());
    }
    let causes = causes.into_iter().map(|(cause, kinds)| format!("{}: {cause}", kinds.join(", ")));
    let causes = causes.collect::<Vec<_>>().join("; ");
    CommandError::new(format!("Cannot read the cluster ({causes})")).code(code).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_cannot_be_listed_are_named_with_each_cause_once() {
        let report = |pending: &[(Kind, Pending)]| incomplete(pending.to_vec()).report();
        assert_eq!(
            report(&[(Kind::Pod, Pending::Forbidden), (Kind::Node, Pending::Forbidden)]),
            "Cannot read the cluster (Pod, Node: you may not list and watch them). Ask an \
             administrator for the right to list and watch them."
        );
        let cause = || Pending::Failed("tcp connect error: Connection refused".into());
        assert_eq!(
            report(&[(Kind::Pod, cause()), (Kind::Node, cause()), (Kind::Miner, Pending::Listing)]),
            "Cannot read the cluster (Pod, Node: tcp connect error: Connection refused; Miner: the \
             list was not complete in time). Try again."
        );
        assert_eq!(
            report(&[(Kind::Miner, Pending::NotInstalled), (Kind::Pod, Pending::Forbidden)]),
            "Cannot read the cluster (Miner: not installed; Pod: you may not list and watch them). \
             Install the definitions with the chart daylight-crds."
        );
    }
}
