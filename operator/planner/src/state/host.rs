//! The account of one pool on one node, and the buckets in which nodes are found by it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, Sub, SubAssign};

use crate::model::{Pod, Shape};
use crate::state::table::Id;
use crate::state::{NodeRow, PodRow, PoolRow, Resource};

/// CPU, memory, huge pages and pod slots: the needs of a pod other than GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu_milli: i64,
    pub(crate) memory: i64,
    pub(crate) huge_pages: [i64; 2],
    pub(crate) pods: i64,
}

impl Amounts {
    /// Returns the needs of `count` pods of a shape.
    pub(crate) fn of(shape: &Shape, count: u32) -> Self {
        let count = i64::from(count);
        Self {
            cpu_milli: shape.cpu_milli.cast_signed().saturating_mul(count),
            memory: shape.memory.cast_signed().saturating_mul(count),
            huge_pages: shape.huge_pages.map(|bytes| bytes.cast_signed().saturating_mul(count)),
            pods: count,
        }
    }

    /// Returns the needs of one pod.
    pub(crate) fn of_pod(pod: &Pod) -> Self {
        let shape = Shape {
            gpus: 0,
            cpu_milli: pod.cpu_milli,
            memory: pod.memory,
            huge_pages: pod.huge_pages,
        };
        Self::of(&shape, 1)
    }

    /// Returns what is missing where the amounts are negative, together with `gpus`.
    pub(crate) fn missing(&self, gpus: u32) -> Shape {
        let missing = |amount: i64| (-amount).max(0).cast_unsigned();
        Shape {
            gpus,
            cpu_milli: missing(self.cpu_milli),
            memory: missing(self.memory),
            huge_pages: self.huge_pages.map(missing),
        }
    }

    /// Returns how many pods of a shape the amounts suffice for.
    pub(crate) fn pods_of(&self, shape: &Shape) -> u32 {
        let by = |have: i64, need: u64| match need {
            0 => u32::MAX,
            need => u32::try_from(have.max(0).cast_unsigned() / need).unwrap_or(u32::MAX),
        };
        let huge_pages = self.huge_pages.into_iter().zip(shape.huge_pages);
        huge_pages
            .map(|(have, need)| by(have, need))
            .chain([by(self.cpu_milli, shape.cpu_milli), by(self.memory, shape.memory)])
            .chain([by(self.pods, 1)])
            .min()
            .unwrap_or_default()
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        let mut huge_pages = self.huge_pages.into_iter().zip(other.huge_pages);
        self.cpu_milli >= other.cpu_milli
            && self.memory >= other.memory
            && huge_pages.all(|(have, need)| have >= need)
            && self.pods >= other.pods
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.cpu_milli += other.cpu_milli;
        self.memory += other.memory;
        self.huge_pages[0] += other.huge_pages[0];
        self.huge_pages[1] += other.huge_pages[1];
        self.pods += other.pods;
    }
}

impl SubAssign for Amounts {
    fn sub_assign(&mut self, other: Self) {
        self.cpu_milli -= other.cpu_milli;
        self.memory -= other.memory;
        self.huge_pages[0] -= other.huge_pages[0];
        self.huge_pages[1] -= other.huge_pages[1];
        self.pods -= other.pods;
    }
}

impl Sub for Amounts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

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

/// The number of miner pods of each size on a host, one byte a size: 1 to 16
/// GPUs, larger ones counted as 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sizes(u128);

impl Sizes {
    /// The largest size that has a count of its own.
    pub(crate) const LARGEST: u32 = 16;

    fn shift(size: u32) -> u32 {
        (size.clamp(1, Self::LARGEST) - 1) * 8
    }

    pub(crate) fn add(&mut self, size: u32) {
        // A count saturates at 255; a kubelet runs 110 pods by default.
        if self.count(size) < 0xff {
            self.0 += 1 << Self::shift(size);
        }
    }

    pub(crate) fn count(self, size: u32) -> u32 {
        (self.0 >> Self::shift(size)) as u32 & 0xff
    }

    /// Returns the number of pods.
    pub(crate) fn pods(self) -> u32 {
        (1..=Self::LARGEST).map(|size| self.count(size)).sum()
    }

    /// Returns the fewest pods whose GPUs add up to at least `gpus`.
    pub(crate) fn fewest_for(self, gpus: u32) -> u32 {
        let (mut left, mut pods) = (gpus, 0);
        for size in (1..=Self::LARGEST).rev() {
            if left == 0 {
                break;
            }
            let taken = self.count(size).min(left.div_ceil(size));
            pods += taken;
            left = left.saturating_sub(taken * size);
        }
        pods
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
    /// An autoscaler manages the node, or it lost GPUs.
    Never,
}

/// Entry of a host in the buckets of its pool, and its part of the pool's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filed {
    pub(crate) open: bool,
    pub(crate) fillable: bool,
    pub(crate) bucket: Bucket,
    pub(crate) ai_sizes: Sizes,
    pub(crate) sums: Sums,
}

/// GPUs that AI can get from a host, by their cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bucket {
    /// Idle, not promised.
    pub(crate) free: u32,
    /// Held by stopping miners, not promised.
    pub(crate) coming: u32,
    /// Held by miners that run on, not promised.
    pub(crate) mining: u32,
    /// The sizes of those miners.
    pub(crate) sizes: Sizes,
}

impl Bucket {
    /// Returns the GPUs that AI can have here.
    pub(crate) const fn available(&self) -> u32 {
        self.free + self.coming + self.mining
    }

    /// Returns the fewest miners that must stop so that `gpus` can be had.
    pub(crate) fn displaced(&self, gpus: u32) -> u32 {
        match gpus.checked_sub(self.free + self.coming) {
            None | Some(0) => 0,
            Some(short) => self.sizes.fewest_for(short),
        }
    }
}

/// Sums over the hosts of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) hosts: u32,
    /// Allocatable, on hosts where pods can be bound.
    pub(crate) usable: u32,
    pub(crate) ai: u32,
    pub(crate) undeclared: u32,
    pub(crate) unlisted: u32,
    pub(crate) mining: u32,
    /// Free on hosts where pods can be bound.
    pub(crate) free: u32,
    pub(crate) coming: u32,
    /// Idle on hosts where pods cannot be bound, and lost.
    pub(crate) unavailable: u32,
    /// Held beyond what the hosts offer, lost GPUs aside.
    pub(crate) beyond: u32,
    /// Held, and allocated by a DRA driver.
    pub(crate) by_claim: u32,
}

macro_rules! each_sum {
    ($left:ident, $op:tt, $right:ident) => {
        $left.hosts $op $right.hosts;
        $left.usable $op $right.usable;
        $left.ai $op $right.ai;
        $left.undeclared $op $right.undeclared;
        $left.unlisted $op $right.unlisted;
        $left.mining $op $right.mining;
        $left.free $op $right.free;
        $left.coming $op $right.coming;
        $left.unavailable $op $right.unavailable;
        $left.beyond $op $right.beyond;
        $left.by_claim $op $right.by_claim;
    };
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        each_sum!(self, +=, other);
    }
}

impl SubAssign for Sums {
    fn sub_assign(&mut self, other: Self) {
        each_sum!(self, -=, other);
    }
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

/// A place in the order of node names, and the node.
pub(crate) type NodeAt = (u64, Id<NodeRow>);

/// The hosts of a pool, by what can be had from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    /// Open hosts from which AI can have something.
    pub(crate) open: BTreeMap<Bucket, BTreeSet<NodeAt>>,
    /// Hosts where miners may be granted, by free GPUs.
    pub(crate) fillable: BTreeMap<u32, BTreeSet<NodeAt>>,
    /// Number of open hosts by allocatable GPUs.
    pub(crate) allocatable: BTreeMap<u32, u32>,
    /// Number of AI pods by size, from which the sizes of future work are expected.
    pub(crate) ai_sizes: [u32; Sizes::LARGEST as usize],
}

impl Buckets {
    pub(crate) fn insert(&mut self, filed: &Filed, at: NodeAt) {
        for (sum, size) in self.ai_sizes.iter_mut().zip(1..) {
            *sum += filed.ai_sizes.count(size);
        }
        if filed.open {
            *self.allocatable.entry(filed.sums.usable).or_default() += 1;
            if filed.bucket.available() > 0 {
                self.open.entry(filed.bucket).or_default().insert(at);
            }
        }
        if filed.fillable {
            self.fillable.entry(filed.bucket.free).or_default().insert(at);
        }
    }

    pub(crate) fn remove(&mut self, filed: &Filed, at: NodeAt) {
        for (sum, size) in self.ai_sizes.iter_mut().zip(1..) {
            *sum -= filed.ai_sizes.count(size);
        }
        if filed.open {
            if let Some(count) = self.allocatable.get_mut(&filed.sums.usable) {
                *count -= 1;
                if *count == 0 {
                    self.allocatable.remove(&filed.sums.usable);
                }
            }
            remove_from(&mut self.open, &filed.bucket, at);
        }
        if filed.fillable {
            remove_from(&mut self.fillable, &filed.bucket.free, at);
        }
    }
}

fn remove_from<K: Ord>(buckets: &mut BTreeMap<K, BTreeSet<NodeAt>>, key: &K, at: NodeAt) {
    if let Some(bucket) = buckets.get_mut(key) {
        bucket.remove(&at);
        if bucket.is_empty() {
            buckets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::table::Table;

    fn sizes(pods: &[u32]) -> Sizes {
        let mut sizes = Sizes::default();
        for &pod in pods {
            sizes.add(pod);
        }
        sizes
    }

    #[test]
    fn the_fewest_pods_cover_a_need() {
        assert_eq!(sizes(&[1, 1, 1, 1]).fewest_for(3), 3);
        assert_eq!(sizes(&[1, 1, 2, 4]).fewest_for(3), 1);
        assert_eq!(sizes(&[1, 1, 2, 4]).fewest_for(5), 2);
        assert_eq!(sizes(&[2, 2]).fewest_for(4), 2);
        assert_eq!(sizes(&[8]).fewest_for(1), 1);
        assert_eq!(sizes(&[]).fewest_for(0), 0);
    }

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
