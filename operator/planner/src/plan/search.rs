//! The search for a node for one more replica: the node with the fewest free GPUs that takes it,
//! unless the node is kept for a miner with a better claim.

use std::ops::Bound;

use rustc_hash::FxHashMap;

use crate::explain::Reason;
use crate::model::Shape;
use crate::plan::Run;
use crate::plan::power::Counted;
use crate::state::amounts::Amounts;
use crate::state::buckets::NodeAt;
use crate::state::host::HolderKind;
use crate::state::table::Id;
use crate::state::{MinerRow, NodeRow, PoolRow};
use daylight_base::{Name, Timestamp};

/// The search for nodes for replicas of one shape in one pool.
///
/// Within a pass nodes only get fuller, so the search never looks back, unless grants of another
/// shape moved nodes to a place behind it.
#[derive(Default)]
struct Search {
    /// The node found last, which may take more.
    current: Option<Id<NodeRow>>,
    /// Its place when it was found: free GPUs, then the order of nodes.
    after: Option<(u32, NodeAt)>,
    /// Grants of this shape in the pool.
    own: u32,
    /// Grants of other shapes in the pool when the search last began.
    others: u32,
    /// The most informative reason why a node was skipped.
    skipped: Option<Reason>,
    /// No node is left.
    over: bool,
}

/// The object of a search: the pool, the shape, and the miner if some nodes are closed to it alone.
type Sought = (Id<PoolRow>, Shape, Option<Id<MinerRow>>);

/// The searches of one pass over the miners.
#[derive(Default)]
pub(super) struct Searches {
    by_shape: FxHashMap<Sought, Search>,
    /// All grants and kept places in a pool.
    granted: FxHashMap<Id<PoolRow>, u32>,
    /// GPUs that new pods may take, by resource.
    pub(super) arriving: FxHashMap<Name, u32>,
    /// Idle GPUs of a pool on nodes that observe the idle delay, and the end of the first delay.
    pub(super) resting: FxHashMap<Id<PoolRow>, (u32, Option<Timestamp>)>,
}

impl Searches {
    pub(super) fn new(arriving: FxHashMap<Name, u32>) -> Self {
        Self { arriving, ..Self::default() }
    }

    /// Counts a grant.
    pub(super) fn count(&mut self, pool: Id<PoolRow>, shape: Shape, alone: Option<Id<MinerRow>>) {
        self.by_shape.entry((pool, shape, alone)).or_default().own += 1;
        *self.granted.entry(pool).or_default() += 1;
    }

    /// Counts a place that is kept: like a grant of another shape, it moves a node to a bucket with
    /// fewer free GPUs.
    pub(super) fn count_kept(&mut self, pool: Id<PoolRow>) {
        *self.granted.entry(pool).or_default() += 1;
    }
}

/// The time at which nodes and caps have to allow a replica.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    /// Once the stopping miners have stopped.
    Drained,
}

impl When {
    /// Returns the replicas that count against caps.
    pub(super) const fn counted(self) -> Counted {
        match self {
            Self::Now => Counted::All,
            Self::Drained => Counted::Then,
        }
    }
}

impl Run<'_> {
    /// Finds the node with the fewest free GPUs that takes one more pod of a shape.
    pub(super) fn search(
        &mut self,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        shape: Shape,
        searches: &mut Searches,
    ) -> Result<Id<NodeRow>, Reason> {
        let found = self.search_on(pool, miner, shape, searches);
        debug_assert!(
            found.is_ok() || !self.is_taken_anywhere(pool, miner, shape),
            "no_idle_gpu_for_a_waiting_miner: the search passed over a node"
        );
        found
    }

    /// Returns whether any of the first nodes of a pool takes a pod of a shape: looks at all of a
    /// small pool, and at a bounded number in a large one.
    fn is_taken_anywhere(&self, pool: Id<PoolRow>, miner: Id<MinerRow>, shape: Shape) -> bool {
        let buckets = self.state.pools[pool].buckets.fillable.range(shape.gpus..);
        let mut nodes = buckets.flat_map(|(_, nodes)| nodes).take(64);
        nodes.any(|&(_, node)| self.takes(node, pool, miner, &shape, When::Now).is_ok())
    }

    /// Continues the search where it stopped after the last replica of the same shape.
    fn search_on(
        &mut self,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        shape: Shape,
        searches: &mut Searches,
    ) -> Result<Id<NodeRow>, Reason> {
        let granted = searches.granted.get(&pool).copied().unwrap_or_default();
        let takes = |run: &Self, node| run.takes(node, pool, miner, &shape, When::Now);
        let alone = self.is_closed_anywhere(miner).then_some(miner);
        let search = searches.by_shape.entry((pool, shape, alone)).or_default();
        let others = granted - search.own;
        // Without grants of other shapes nothing has moved since, and the answer is the same.
        if search.over && search.others == others {
            let reason = search.skipped.clone();
            return Err(reason.unwrap_or_else(|| self.none_idle(pool, shape.gpus)));
        }
        // The same node first: filling it up leaves whole nodes to larger replicas.
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
                    // Nodes up to the last one found were skipped, or have filled up since.
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
            // At the end. Grants of other shapes may have moved nodes to a bucket behind the cursor;
            // after those, one more round from the start sees every node.
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

    /// Returns the reason why no node has `gpus` idle GPUs for miners.
    fn none_idle(&self, pool: Id<PoolRow>, gpus: u32) -> Reason {
        let open = self.state.pools[pool].buckets.open.keys().next_back();
        if open.is_some_and(|bucket| bucket.free >= gpus) {
            Reason::NodesClosed { gpus }
        } else {
            Reason::WaitingForIdleGpus { gpus }
        }
    }

    /// Checks that a node takes one more replica of a miner.
    pub(super) fn takes(
        &self,
        node: Id<NodeRow>,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
        shape: &Shape,
        when: When,
    ) -> Result<(), Reason> {
        let idle = Reason::WaitingForIdleGpus { gpus: shape.gpus };
        let row = &self.state.nodes[node];
        let Some(host) = self.state.host_in(node, pool).filter(|_| row.object.is_some()) else {
            return Err(idle);
        };
        let (bucket, mut amounts) = (host.bucket(), self.state.room(node));
        let gpus = match when {
            When::Now => {
                // `room` counts stopping miners as gone; their CPU and memory are not free yet.
                amounts -= row.used.draining;
                bucket.free
            }
            When::Drained => bucket.free + bucket.coming,
        };
        if gpus < shape.gpus || !host.fillable() {
            return Err(idle);
        }
        // Before the reasons that end by time, which say that nothing else is missing.
        if !amounts.covers(&Amounts::of(shape, 1)) {
            return Err(Reason::NoNodeFits { gpus: shape.gpus });
        }
        match self.closed_until(node, pool, miner) {
            Some(reason) => Err(reason),
            None => self.free_slot(node, when).map(|_| ()),
        }
    }

    /// Returns the reason why a node takes no replica of a miner before some time.
    pub(super) fn closed_until(
        &self,
        node: Id<NodeRow>,
        pool: Id<PoolRow>,
        miner: Id<MinerRow>,
    ) -> Option<Reason> {
        let object = self.state.nodes[node].object.as_ref()?;
        let name = self.state.miners.name(miner);
        let of_miner = object.closed_to.iter().filter(|(closed, _)| closed == name);
        let until = of_miner.map(|(_, until)| *until).chain(object.quarantined_until).max();
        if let Some(until) = until.filter(|&until| self.now < until) {
            return Some(Reason::Quarantined { until });
        }
        let delay = self.state.pools[pool].object.as_ref()?.idle_delay;
        let until = object.ai_released_at? + delay;
        (self.now < until).then_some(Reason::IdleDelay { until })
    }

    /// Returns whether some node is closed to this miner, and open to others.
    pub(super) fn is_closed_anywhere(&self, miner: Id<MinerRow>) -> bool {
        self.state.closed_to.contains_key(self.state.miners.name(miner))
    }

    /// Returns the lowest slot of a node that no grant has then. A node has as many slots as GPUs of
    /// all resources together.
    pub(super) fn free_slot(&self, node: Id<NodeRow>, when: When) -> Result<u32, Reason> {
        let row = &self.state.nodes[node];
        let slots: u32 = row.hosts.iter().map(|host| host.allocatable).sum();
        let taken = |slot: u32| {
            let mut holders = row.pods.iter().filter(|holder| holder.slot == Some(slot));
            holders.any(|holder| when == When::Now || holder.kind == HolderKind::Miner)
        };
        let free = (0..slots).find(|&slot| !taken(slot));
        free.ok_or(Reason::WaitingForIdleGpus { gpus: 1 })
    }
}

/// Keeps the most informative reason: a time, then the miner for which idle GPUs are kept, then what
/// is short, then that no GPU is idle.
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
