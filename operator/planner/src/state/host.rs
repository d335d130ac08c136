//! What pods hold on one node, and the account of one pool there.

use crate::state::amounts::Amounts;
use crate::state::buckets::{Bucket, Filed, Sizes, Sums};
use crate::state::table::Id;
use crate::state::{PodRow, PoolRow, Resource};

/// CPU, memory and pod slots of a node that are held, by holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeUse {
    /// Pods that are not miners, and miners that do not stop.
    pub(crate) fixed: Amounts,
    /// Miners that run on.
    pub(crate) mining: Amounts,
    /// Miners that are stopping.
    pub(crate) draining: Amounts,
    /// Workers promised to the node and not bound yet, and pods nominated to it.
    pub(crate) claimed: Amounts,
}

/// Kind of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HolderKind {
    /// A classed pod or an AI worker.
    Ai,
    /// A pod without a class.
    Undeclared,
    /// A pod whose class is not on the positive list.
    Unlisted,
    /// A miner that runs on.
    Miner,
    /// A miner that is stopping.
    Stopping,
    /// A miner that should have stopped.
    Stuck,
    /// A miner with a scheduling gate: it has a slot, and nothing else.
    Gated,
}

/// The holding of a pod on its node, of one extended resource at most: a pod that requests several
/// has as many entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) pod: Id<PodRow>,
    pub(crate) kind: HolderKind,
    /// The pool that a miner was granted in.
    pub(crate) pool: Option<Id<PoolRow>>,
    /// The slot of a miner.
    pub(crate) slot: Option<u32>,
    pub(crate) resource: Resource,
    pub(crate) gpus: u32,
    /// A DRA driver allocated the GPUs.
    pub(crate) by_claim: bool,
    /// CPU, memory and pod slot; zero in all entries of a pod but the first.
    pub(crate) amounts: Amounts,
}

impl Holder {
    /// Returns whether this is the first entry of its pod.
    pub(crate) const fn is_first(&self) -> bool {
        self.amounts.pods == 1
    }
}

impl NodeUse {
    pub(crate) fn count(&mut self, holder: &Holder) {
        *match holder.kind {
            HolderKind::Ai | HolderKind::Undeclared | HolderKind::Unlisted | HolderKind::Stuck => {
                &mut self.fixed
            }
            HolderKind::Miner => &mut self.mining,
            HolderKind::Stopping => &mut self.draining,
            HolderKind::Gated => return,
        } += holder.amounts;
    }
}

/// The account of one pool on one node, in GPUs of the pool's resource.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) pool: Id<PoolRow>,
    pub(crate) resource: Resource,
    pub(crate) allocatable: u32,
    /// Held by classed pods and AI workers.
    pub(crate) ai: u32,
    /// Held by pods without a class.
    pub(crate) undeclared: u32,
    /// Held by pods whose class is not on the positive list.
    pub(crate) unlisted: u32,
    /// Held by miners that run on.
    pub(crate) mining: u32,
    /// Those miners' pods by size.
    pub(crate) sizes: Sizes,
    /// Held by miners that are stopping.
    pub(crate) draining: u32,
    /// Held by miners that should have stopped.
    pub(crate) stuck: u32,
    /// Of what pods hold, GPUs that a DRA driver allocated.
    pub(crate) by_claim: u32,
    /// GPUs that the node has or had, and does not offer now.
    pub(crate) lost: u32,
    /// The node lost GPUs moments ago, and may have them again.
    pub(crate) shrunk: bool,
    /// Promised to jobs that wait for a drain.
    pub(crate) reserved: u32,
    /// Promised to released jobs whose workers are not bound yet, and to pods that kube-scheduler
    /// nominated.
    pub(crate) expected: u32,
    /// The AI pods by size.
    pub(crate) ai_sizes: Sizes,
    /// AI pods can be bound here.
    pub(crate) open: bool,
    /// Permission to grant miners here, apart from idle delay and quarantine.
    pub(crate) mines: Mines,
    /// AI that is placed here gets the node cleared of all miners.
    pub(crate) cleared_whole: bool,
    /// The entry in the pool's buckets and sums.
    pub(crate) filed: Option<Filed>,
}

/// Permission to grant miners on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mines {
    Yes,
    /// Not while the node is kept clear for AI.
    KeptClear,
    /// An autoscaler manages the node, it lost GPUs, or the pool's `RuntimeClass` excludes it.
    Never,
}

impl Host {
    pub(crate) fn new(pool: Id<PoolRow>, resource: Resource) -> Self {
        Self {
            pool,
            resource,
            allocatable: 0,
            ai: 0,
            undeclared: 0,
            unlisted: 0,
            mining: 0,
            sizes: Sizes::default(),
            draining: 0,
            stuck: 0,
            by_claim: 0,
            lost: 0,
            shrunk: false,
            reserved: 0,
            expected: 0,
            ai_sizes: Sizes::default(),
            open: false,
            mines: Mines::Never,
            cleared_whole: false,
            filed: None,
        }
    }

    /// Resets what pods and promises hold.
    pub(crate) fn clear(&mut self) {
        self.ai = 0;
        self.undeclared = 0;
        self.unlisted = 0;
        self.mining = 0;
        self.sizes = Sizes::default();
        self.draining = 0;
        self.stuck = 0;
        self.by_claim = 0;
        self.reserved = 0;
        self.expected = 0;
        self.ai_sizes = Sizes::default();
    }

    /// Counts the holding of a pod.
    pub(crate) fn count(&mut self, holder: &Holder) {
        let gpus = holder.gpus;
        if holder.by_claim {
            self.by_claim += gpus;
        }
        match holder.kind {
            HolderKind::Ai => self.ai += gpus,
            HolderKind::Undeclared => self.undeclared += gpus,
            HolderKind::Unlisted => self.unlisted += gpus,
            HolderKind::Miner => self.mining += gpus,
            HolderKind::Stopping => self.draining += gpus,
            HolderKind::Stuck => self.stuck += gpus,
            HolderKind::Gated => {}
        }
        match holder.kind {
            HolderKind::Ai | HolderKind::Undeclared | HolderKind::Unlisted => {
                self.ai_sizes.add(gpus);
            }
            HolderKind::Miner => self.sizes.add(gpus),
            HolderKind::Stopping | HolderKind::Stuck | HolderKind::Gated => {}
        }
    }

    /// Returns the allocatable GPUs that no pod holds; negative if the node lost GPUs.
    pub(crate) fn idle(&self) -> i64 {
        i64::from(self.allocatable)
            - i64::from(self.ai)
            - i64::from(self.undeclared)
            - i64::from(self.unlisted)
            - i64::from(self.mining)
            - i64::from(self.draining)
            - i64::from(self.stuck)
    }

    /// Returns the GPUs promised to jobs and nominated pods.
    pub(crate) fn claimed(&self) -> i64 {
        i64::from(self.reserved) + i64::from(self.expected)
    }

    /// Returns whether miners can be granted here, apart from idle delay and quarantine.
    pub(crate) fn fillable(&self) -> bool {
        self.open && self.mines == Mines::Yes
    }

    /// Returns what AI can have here. Promises are taken from idle GPUs first, then from those that
    /// are stopping, then from miners: in the order in which they will be met.
    pub(crate) fn bucket(&self) -> Bucket {
        let (idle, claimed) = (self.idle(), self.claimed());
        let draining = i64::from(self.draining);
        let free = (idle - claimed).max(0);
        let coming = (idle + draining - claimed - free).clamp(0, draining);
        let mining = (idle + draining + i64::from(self.mining) - claimed - free - coming)
            .clamp(0, i64::from(self.mining));
        let held = i64::from(self.ai)
            + i64::from(self.undeclared)
            + i64::from(self.unlisted)
            + i64::from(self.stuck);
        let left = i64::from(self.allocatable) - held - claimed;
        debug_assert_eq!(free + coming + mining, left.max(0), "AI can have what AI does not hold");
        Bucket {
            free: free as u32,
            coming: coming as u32,
            mining: mining as u32,
            sizes: self.sizes,
        }
    }

    /// Returns how many more miner GPUs must be freed so that every reserved GPU can be had, in
    /// addition to those expected to be taken.
    pub(crate) fn short(&self) -> u32 {
        if self.reserved == 0 {
            return 0;
        }
        if self.cleared_whole {
            return self.mining;
        }
        let coming = self.idle() + i64::from(self.draining);
        (self.claimed() - coming).clamp(0, i64::from(self.mining)) as u32
    }

    /// Returns how many miner GPUs must be freed so that `gpus` that are not promised can be had. On a
    /// node that lost GPUs, the miners beyond what is left free nothing and are counted in addition.
    pub(crate) fn short_for(&self, gpus: u32) -> u32 {
        let bucket = self.bucket();
        let overhang = (-self.idle() - i64::from(self.draining)).max(0) as u32;
        match gpus.saturating_sub(bucket.free + bucket.coming) {
            0 => 0,
            short => short + overhang,
        }
    }

    /// Returns the entry that this account gives.
    pub(crate) fn file(&self) -> Filed {
        let bucket = self.bucket();
        let promised = self.idle().clamp(0, self.claimed()) as u32;
        let fillable = self.fillable() && self.idle() >= 0;
        let beyond = (-self.idle()).max(0) as u32;
        Filed {
            open: self.open,
            fillable: fillable && bucket.free > 0,
            bucket,
            ai_sizes: self.ai_sizes,
            sums: Sums {
                hosts: 1,
                usable: if self.open { self.allocatable } else { 0 },
                ai: self.ai + promised,
                undeclared: self.undeclared,
                unlisted: self.unlisted,
                mining: self.mining + self.draining + self.stuck,
                free: if self.open { bucket.free } else { 0 },
                coming: if self.open { bucket.coming } else { 0 },
                // What pods still hold of the lost GPUs is counted as theirs.
                unavailable: if self.open { 0 } else { bucket.free }
                    + self.lost.saturating_sub(beyond),
                beyond: if self.shrunk { 0 } else { beyond.saturating_sub(self.lost) },
                by_claim: self.by_claim,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::table::Table;

    #[test]
    fn a_reservation_is_short_of_nothing_once_what_it_lacked_drains() {
        let pool = Table::<PoolRow>::default().entry(&"h100".into());
        // A node that lost two of five GPUs, with one reserved and one expected to be taken.
        let mut host = Host::new(pool, Resource::default());
        host.allocatable = 3;
        (host.mining, host.reserved, host.expected) = (5, 1, 1);
        assert_eq!(host.short(), 4);
        (host.mining, host.draining) = (1, 4);
        assert_eq!(host.short(), 0);
    }
}
