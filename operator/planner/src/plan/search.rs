//! Which node takes one more replica of a shape: the one with the fewest free
//! GPUs, unless it is kept for a miner with a better claim.

use std::ops::Bound;

use rustc_hash::FxHashMap;

use crate::explain::Reason;
use crate::model::Shape;
use crate::plan::Run;
use crate::plan::candidate::MinerCandidate;
use crate::state::host::{Amounts, NodeAt};
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PoolRow};
use daylight_base::{Name, Timestamp};

/// The search for nodes for replicas of one shape in one pool.
///
/// Within a run nodes only get fuller, so the search never looks back, unless
/// grants of another shape moved nodes behind it.
#[derive(Default)]
struct Search {
    current: Option<Id<NodeRow>>,
    after: Option<(u32, NodeAt)>,
    own: u32,
    /// Grants of other shapes in the pool when the search began.
    others: u32,
    skipped: Option<Reason>,
    over: bool,
}

/// The searches of one pass over the miners.
#[derive(Default)]
pub(super) struct Searches {
    by_shape: FxHashMap<(Id<PoolRow>, Shape), Search>,
    /// All grants in a pool.
    granted: FxHashMap<Id<PoolRow>, u32>,
    /// GPUs that pods which just came may take, by resource.
    pub(super) arriving: FxHashMap<Name, u32>,
    pub(super) kept: Kept,
}

/// Idle GPUs that await those beside them, for a miner with a better claim that
/// needs them together.
#[derive(Default)]
pub(super) struct Kept {
    nodes: FxHashMap<Id<NodeRow>, Id<MinerRow>>,
    /// How many GPUs of a pool they will be, and the first miner they are for.
    pub(super) gpus: FxHashMap<Id<PoolRow>, (u32, Id<MinerRow>)>,
}

impl Searches {
    pub(super) fn new(arriving: FxHashMap<Name, u32>) -> Self {
        Self { arriving, ..Self::default() }
    }

    /// Whether what was granted may have made what is kept needless.
    pub(super) fn may_go_on(&self) -> bool {
        !self.granted.is_empty() && !self.kept.nodes.is_empty()
    }

    /// Counts a grant.
    pub(super) fn count(&mut self, pool: Id<PoolRow>, shape: Shape) {
        self.by_shape.entry((pool, shape)).or_default().own += 1;
        *self.granted.entry(pool).or_default() += 1;
    }
}

/// When a node has to take a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// Once those that are stopping have stopped.
    Drained,
}

impl Run<'_> {
    /// Keeps nodes where a miner's replicas will fit once others have stopped
    /// there: those with weaker claims and smaller replicas would else take
    /// one GPU after the other as it becomes idle, and the miner would have to
    /// displace them again and again.
    pub(super) fn keep_nodes(
        &self,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        candidate: &MinerCandidate,
        searches: &mut Searches,
    ) {
        let shape = &candidate.miner.shape;
        let row = &self.state.pools[pool];
        let Some(object) = &row.object else { return };
        if shape.gpus == 1 || row.sums.coming == 0 {
            return;
        }
        let held_back = object.headroom.of(row.sums.usable)
            + searches.arriving.get(&object.resource).copied().unwrap_or_default()
            + searches.kept.gpus.get(&pool).map_or(0, |(gpus, _)| *gpus);
        let mut left = (row.sums.free + row.sums.coming).saturating_sub(held_back);
        let replicas = candidate.miner.replicas;
        let mut missing = replicas.saturating_sub(self.state.miners[miner].held);
        // Those with the most idle GPUs first.
        for (bucket, nodes) in row.buckets.open.iter().rev() {
            if bucket.coming == 0 || bucket.free + bucket.coming < shape.gpus {
                continue;
            }
            for &(_, node) in nodes {
                if missing == 0 || left < shape.gpus {
                    return;
                }
                if !searches.kept.nodes.contains_key(&node)
                    && self.takes(node, pool, shape, When::Drained).is_ok()
                {
                    searches.kept.nodes.insert(node, miner);
                    searches.kept.gpus.entry(pool).or_insert((0, miner)).0 += shape.gpus;
                    missing -= 1;
                    left -= shape.gpus;
                }
            }
        }
    }

    /// The node with the fewest free GPUs that takes one more pod of a shape.
    pub(super) fn search(
        &mut self,
        pool: Id<PoolRow>,
        shape: Shape,
        searches: &mut Searches,
    ) -> Result<Id<NodeRow>, Reason> {
        let granted = searches.granted.get(&pool).copied().unwrap_or_default();
        let kept = &searches.kept.nodes;
        let takes = |run: &Self, node| match kept.get(&node) {
            Some(&miner) => {
                let miner = run.state.miners.name(miner).clone();
                Err(Reason::KeptForMiner { miner })
            }
            None => run.takes(node, pool, &shape, When::Now),
        };
        let search = searches.by_shape.entry((pool, shape)).or_default();
        let others = granted - search.own;
        if search.over && search.others == others {
            let reason = search.skipped.clone();
            return Err(reason.unwrap_or_else(|| self.none_idle(pool, shape.gpus)));
        }
        if let Some(node) = search.current {
            match takes(self, node) {
                Ok(()) => return Ok(node),
                Err(reason) => note(&mut search.skipped, reason),
            }
        }
        loop {
            let buckets = &self.state.pools[pool].buckets.fillable;
            let (from, after) = match search.after {
                None => (shape.gpus, None),
                Some((free, at)) => (free, Some(at)),
            };
            let mut found = None;
            'buckets: for (&free, nodes) in buckets.range(from..) {
                let lower = match after {
                    Some(at) if free == from => Bound::Excluded(at),
                    _ => Bound::Unbounded,
                };
                for &at in nodes.range((lower, Bound::Unbounded)) {
                    match takes(self, at.1) {
                        Ok(()) => {
                            found = Some((free, at));
                            break 'buckets;
                        }
                        Err(reason) => note(&mut search.skipped, reason),
                    }
                }
            }
            if let Some((free, at)) = found {
                search.current = Some(at.1);
                search.after = Some((free, at));
                return Ok(at.1);
            }
            search.current = None;
            if search.after.is_none() || search.others == others {
                search.over = true;
                search.others = others;
                let reason = search.skipped.clone();
                let reason = reason.unwrap_or_else(|| self.none_idle(pool, shape.gpus));
                if let Some(at) = reason.earliest() {
                    self.wake(at);
                }
                return Err(reason);
            }
            search.after = None;
            search.others = others;
        }
    }

    /// Why no node that may mine has so many GPUs idle.
    fn none_idle(&self, pool: Id<PoolRow>, gpus: u32) -> Reason {
        let open = self.state.pools[pool].buckets.open.keys().next_back();
        if open.is_some_and(|bucket| bucket.free >= gpus) {
            Reason::NodesClosed { gpus }
        } else {
            Reason::WaitingForIdleGpus { gpus }
        }
    }

    /// Whether a node takes one more miner's pod of a shape.
    fn takes(
        &self,
        node: Id<NodeRow>,
        pool: Id<PoolRow>,
        shape: &Shape,
        when: When,
    ) -> Result<(), Reason> {
        let idle = Reason::WaitingForIdleGpus { gpus: shape.gpus };
        let row = &self.state.nodes[node];
        let (Some(object), Some(host)) = (&row.object, self.state.host_in(node, pool)) else {
            return Err(idle);
        };
        let (bucket, mut beside) = (host.bucket(), self.state.room(node));
        let gpus = match when {
            When::Now => {
                beside -= row.used.draining;
                bucket.free
            }
            When::Drained => bucket.free + bucket.coming,
        };
        if gpus < shape.gpus || !host.fillable() {
            return Err(idle);
        }
        if let Some(until) = object.quarantined_until.filter(|&until| self.now < until) {
            return Err(Reason::Quarantined { until });
        }
        let delay = self.state.pools[pool].object.as_ref().map(|pool| pool.idle_delay);
        if let (Some(at), Some(delay)) = (object.ai_released_at, delay)
            && self.now < at + delay
        {
            return Err(Reason::IdleDelay { until: at + delay });
        }
        if !beside.covers(&Amounts::of(shape, 1)) {
            return Err(Reason::NoNodeFits { gpus: shape.gpus });
        }
        self.free_slot(node).map(|_| ())
    }

    /// The lowest slot of a node that no live grant has and that is not in
    /// quarantine. A node has as many slots as GPUs of all resources together.
    pub(super) fn free_slot(&self, node: Id<NodeRow>) -> Result<u32, Reason> {
        let row = &self.state.nodes[node];
        let slots: u32 = row.hosts.iter().map(|host| host.allocatable).sum();
        let taken = |slot: u32| row.pods.iter().any(|holder| holder.slot == Some(slot));
        let quarantine = |slot: u32| {
            let slots = row.object.iter().flat_map(|node| &node.quarantined_slots);
            slots
                .filter(|(other, until)| *other == slot && self.now < *until)
                .map(|(_, until)| *until)
                .max()
        };
        let mut earliest: Option<Timestamp> = None;
        for slot in (0..slots).filter(|&slot| !taken(slot)) {
            match quarantine(slot) {
                None => return Ok(slot),
                Some(until) => {
                    earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
                }
            }
        }
        Err(earliest
            .map_or(Reason::WaitingForIdleGpus { gpus: 1 }, |until| Reason::Quarantined { until }))
    }
}

/// Keeps the reason that says most: a time, then whom idle GPUs are kept for,
/// then what is short, then that no GPU is idle.
pub(super) fn note(kept: &mut Option<Reason>, reason: Reason) {
    let weight = |reason: &Reason| match reason {
        Reason::IdleDelay { .. } | Reason::Quarantined { .. } => 3,
        Reason::KeptForMiner { .. } => 2,
        Reason::WaitingForIdleGpus { .. } | Reason::NodesClosed { .. } => 0,
        _ => 1,
    };
    let better = match kept {
        None => weight(&reason) > 0,
        Some(kept) => match (kept.earliest(), reason.earliest()) {
            (Some(kept), Some(new)) => new < kept,
            _ => weight(&reason) > weight(kept),
        },
    };
    if better {
        *kept = Some(reason);
    }
}
