//! A map of the GPUs, with one letter for each.

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_planner::model::{Activity, NodeCondition, Role, Snapshot};
use serde::Serialize;

/// The use of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Use {
    Ai,
    /// Held by a pod without a class.
    Undeclared,
    /// Held by a pod whose class does not exist, or is prohibited.
    Unlisted,
    /// Held by a miner.
    Mining,
    /// Held by a miner that is terminating.
    Stopping,
    Idle,
    /// Held by no pod, and not usable now.
    Unavailable,
}

impl Use {
    pub(super) const LEGEND: &str = "A AI   m miner   d miner that is stopping   u undeclared   x unlisted   . idle   - unavailable";

    fn letter(self) -> char {
        match self {
            Self::Ai => 'A',
            Self::Undeclared => 'u',
            Self::Unlisted => 'x',
            Self::Mining => 'm',
            Self::Stopping => 'd',
            Self::Idle => '.',
            Self::Unavailable => '-',
        }
    }
}

/// The GPUs of one node.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeMap {
    pub(super) node: Name,
    pub(super) gpus: Vec<Use>,
}

/// Returns the nodes of a pool, each with the use of its GPUs of `resource`.
pub(super) fn of_pool(
    snapshot: &Snapshot,
    pool: &str,
    resource: &str,
    now: Timestamp,
) -> Vec<NodeMap> {
    let mut held: BTreeMap<&Name, Vec<Use>> = BTreeMap::new();
    for pod in snapshot.pods.iter().filter(|pod| !pod.is_gated()) {
        let (Some(node), Some((_, gpus))) =
            (&pod.node, pod.gpus.iter().find(|(name, _)| **name == *resource))
        else {
            continue;
        };
        let used_for = match &pod.role {
            Role::Miner { .. } if pod.deleting => Use::Stopping,
            Role::Miner { .. } => Use::Mining,
            Role::Worker { .. } | Role::Other { activity: Activity::Listed(_), .. } => Use::Ai,
            Role::Other { activity: Activity::Undeclared, .. } => Use::Undeclared,
            Role::Other { activity: Activity::Unlisted, .. } => Use::Unlisted,
        };
        held.entry(node).or_default().extend(std::iter::repeat_n(used_for, *gpus as usize));
    }
    let nodes = snapshot
        .nodes
        .iter()
        .filter(|node| node.pools.iter().any(|membership| *membership.pool == *pool));
    nodes
        .map(|node| {
            let total = node.gpus.iter().find(|(name, _)| **name == *resource);
            let total = total.map_or(0, |(_, count)| *count as usize);
            let mut gpus = held.remove(&node.name).unwrap_or_default();
            gpus.sort_unstable();
            let closed = node.condition != NodeCondition::Ready
                || node.quarantined_until.is_some_and(|until| now < until);
            let rest = if closed { Use::Unavailable } else { Use::Idle };
            // A node that lost GPUs may have fewer than its pods hold.
            gpus.resize(total.max(gpus.len()), rest);
            NodeMap { node: node.name.clone(), gpus }
        })
        .collect()
}

/// Draws the map, with as many nodes on a line as fit into `width` columns.
pub(super) fn draw(nodes: &[NodeMap], width: usize) -> String {
    let cells: Vec<String> = nodes
        .iter()
        .map(|node| {
            let letters: String = node.gpus.iter().map(|gpu| gpu.letter()).collect();
            format!("{} {letters}", node.node)
        })
        .collect();
    let cell = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let columns = ((width + 3) / (cell + 3)).max(1);
    let rows = cells.len().div_ceil(columns);
    let mut text = String::new();
    for row in 0..rows {
        // Column by column, as `ls` does, so that names are in order.
        let line: Vec<String> = (0..columns)
            .filter_map(|column| cells.get(column * rows + row))
            .map(|text| format!("{text:<cell$}"))
            .collect();
        text.push_str(line.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_have_a_letter_and_a_name_in_json() {
        let uses = [
            (Use::Ai, 'A', "Ai"),
            (Use::Undeclared, 'u', "Undeclared"),
            (Use::Unlisted, 'x', "Unlisted"),
            (Use::Mining, 'm', "Mining"),
            (Use::Stopping, 'd', "Stopping"),
            (Use::Idle, '.', "Idle"),
            (Use::Unavailable, '-', "Unavailable"),
        ];
        for (used_for, letter, name) in uses {
            assert_eq!(used_for.letter(), letter);
            assert!(Use::LEGEND.contains(&format!("{letter} ")), "{name}");
            assert_eq!(serde_json::to_value(used_for).unwrap(), name);
        }
    }

    #[test]
    fn nodes_are_drawn_in_columns() {
        let node = |name: &str, gpus: &[Use]| NodeMap { node: name.into(), gpus: gpus.into() };
        let nodes = [
            node("n-0", &[Use::Ai, Use::Mining]),
            node("n-1", &[Use::Idle, Use::Idle]),
            node("n-2", &[Use::Stopping, Use::Unavailable]),
        ];
        assert_eq!(draw(&nodes, 20), "n-0 Am   n-2 d-\nn-1 ..\n");
        assert_eq!(draw(&nodes, 1), "n-0 Am\nn-1 ..\nn-2 d-\n");
    }
}
