//! Nodes: the pools that their GPUs belong to, their accounts, and their entries in the pools.
//!
//! The account of a node is a function of the node, its pods and the promises there. It is recounted
//! as a whole whenever one of them changes: a node has few pods, and a sum that is never adjusted
//! cannot drift.

use std::ops::Bound;

use crate::model::{AutoscaledNodes, Node, NodeCondition, ReclaimUnit};
use crate::state::amounts::Amounts;
use crate::state::buckets::NodeAt;
use crate::state::clamp;
use crate::state::host::{Host, Mines, NodeUse};
use crate::state::table::Id;
use crate::state::{NodeRow, PoolRow, Resource, Stale, State};
use daylight_base::Name;

/// Distance between neighbours in the order of nodes. A new node gets the middle between its
/// neighbours, so 32 can be inserted at the same place before all nodes are spaced out again.
const GAP: u64 = 1 << 32;

impl State {
    /// Adds the nodes of a whole site to an empty one.
    pub(super) fn add_nodes(&mut self, mut nodes: Vec<Node>) {
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self.nodes.reserve(nodes.len());
        let mut named = Vec::with_capacity(nodes.len());
        for (node, place) in nodes.iter().zip(1..) {
            // Room for a pod on each GPU.
            let gpus = node.gpus.iter().map(|(_, count)| *count).max().unwrap_or_default();
            let pods = Vec::with_capacity(gpus.min(16) as usize);
            let row = NodeRow { order: place * GAP, pods, ..NodeRow::default() };
            if let Ok(id) = self.nodes.insert_new(&node.name, row) {
                named.push((node.name.clone(), id));
            }
        }
        self.nodes_by_name = named.into_iter().collect();
        nodes.into_iter().for_each(|node| self.apply_node(node));
    }

    pub(super) fn apply_node(&mut self, mut node: Node) {
        clamp::node(&mut node);
        let id = self.node_entry(&node.name);
        self.unwatch(id);
        let placed = |a: &Node, b: &Node| {
            let (a_gpus, b_gpus) = (a.gpus.iter(), b.gpus.iter());
            a.pools == b.pools && a_gpus.map(|(name, _)| name).eq(b_gpus.map(|(name, _)| name))
        };
        let old = self.nodes[id].object.as_ref();
        let stays = old.is_some_and(|old| placed(old, &node));
        self.replace_node(id, Some(node));
        self.mark(id, if stays { Stale::Node } else { Stale::Pools });
        self.watch(id);
    }

    pub(super) fn remove_node(&mut self, name: &Name) {
        if let Some(id) = self.nodes.find(name) {
            self.unwatch(id);
            self.replace_node(id, None);
            self.mark(id, Stale::Pools);
        }
    }

    fn replace_node(&mut self, id: Id<NodeRow>, node: Option<Node>) {
        for (miner, _) in node.iter().flat_map(|node| &node.closed_to) {
            *self.closed_to.entry(miner.clone()).or_default() += 1;
        }
        let old = std::mem::replace(&mut self.nodes[id].object, node);
        for (miner, _) in old.iter().flat_map(|node| &node.closed_to) {
            if let Some(count) = self.closed_to.get_mut(miner) {
                *count -= 1;
                if *count == 0 {
                    self.closed_to.remove(miner);
                }
            }
        }
    }

    pub(super) fn mark(&mut self, id: Id<NodeRow>, stale: Stale) {
        let row = &mut self.nodes[id];
        if row.stale.is_none() {
            self.stale.push(id);
        }
        row.stale = row.stale.max(Some(stale));
    }

    /// Updates all sums that are out of date.
    pub(crate) fn refresh(&mut self) {
        while let Some(id) = self.stale.pop() {
            let stale = self.nodes[id].stale.take();
            if stale == Some(Stale::Pools) {
                self.claim_pools(id);
            }
            if stale >= Some(Stale::Node) {
                self.read_node(id);
            }
            self.recount(id);
            if stale == Some(Stale::Pools) {
                self.check_fit_on(id);
            }
            self.forget_node(id);
        }
    }

    /// Checks the miners' pods of a node that changed pools: some may have been granted in a pool that
    /// has lost the node, or has it again.
    fn check_fit_on(&mut self, id: Id<NodeRow>) {
        let some_misfit = !self.misfits.is_empty();
        let row = &self.nodes[id];
        let stray = |pool| some_misfit || !row.hosts.iter().any(|host| host.pool == pool);
        let strays = row.pods.iter().filter(|holder| holder.pool.is_some_and(stray));
        let strays: Vec<_> = strays.map(|holder| holder.pod).collect();
        strays.into_iter().for_each(|pod| self.check_fit(pod));
    }

    /// Returns the row of a node; a new one gets its place in the order of names.
    pub(super) fn node_entry(&mut self, name: &Name) -> Id<NodeRow> {
        if let Some(id) = self.nodes.find(name) {
            return id;
        }
        // Places are numbers, so that the sorted sets of nodes compare no names.
        let before = self
            .nodes_by_name
            .range::<str, _>((Bound::Unbounded, Bound::Excluded(&**name)))
            .next_back();
        let low = before.map_or(0, |(_, &id)| self.nodes[id].order);
        let range = (Bound::Excluded(&**name), Bound::Unbounded);
        let order = match self.nodes_by_name.range::<str, _>(range).next() {
            None => low.checked_add(GAP),
            Some((_, &next)) => {
                let middle = u64::midpoint(low, self.nodes[next].order);
                (middle > low).then_some(middle)
            }
        };
        let id = self.nodes.insert(name, NodeRow::default());
        self.nodes_by_name.insert(name.clone(), id);
        match order {
            Some(order) => self.nodes[id].order = order,
            None => self.space_out_nodes(),
        }
        id
    }

    /// Spaces out all nodes evenly, in the same order.
    fn space_out_nodes(&mut self) {
        let ids: Vec<_> = self.nodes_by_name.values().copied().collect();
        // Sets and buckets are sorted by place, so everything is taken out before places change.
        for &id in &ids {
            self.unfile(id);
            self.unwatch(id);
        }
        for (&id, place) in ids.iter().zip(1..) {
            self.nodes[id].order = place * GAP;
        }
        for &id in &ids {
            self.recount(id);
            self.watch(id);
        }
    }

    fn forget_node(&mut self, id: Id<NodeRow>) {
        let row = &self.nodes[id];
        if row.object.is_none()
            && row.pods.is_empty()
            && row.nominees.is_empty()
            && row.holds.is_empty()
        {
            let name = self.nodes.name(id).clone();
            self.nodes_by_name.remove(&name);
            self.nodes.remove(id);
        }
    }

    /// Returns the node's place in the order of nodes.
    pub(crate) fn at(&self, id: Id<NodeRow>) -> NodeAt {
        (self.nodes[id].order, id)
    }

    /// Returns the host of a resource on a node.
    pub(crate) fn host(&self, node: Id<NodeRow>, resource: Resource) -> Option<&Host> {
        self.nodes[node].hosts.iter().find(|host| host.resource == resource)
    }

    /// Returns the host of a pool on a node.
    pub(crate) fn host_in(&self, node: Id<NodeRow>, pool: Id<PoolRow>) -> Option<&Host> {
        self.nodes[node].hosts.iter().find(|host| host.pool == pool)
    }

    fn watch(&mut self, id: Id<NodeRow>) {
        if self.nodes[id].object.as_ref().is_some_and(depends_on_time) {
            self.watched.insert(self.at(id));
        }
    }

    fn unwatch(&mut self, id: Id<NodeRow>) {
        if self.nodes[id].object.as_ref().is_some_and(depends_on_time) {
            self.watched.remove(&self.at(id));
        }
    }

    /// Gives the node's GPUs of each resource to the oldest pool that matches it.
    fn claim_pools(&mut self, id: Id<NodeRow>) {
        self.unfile(id);
        for (pool, winner) in std::mem::take(&mut self.nodes[id].lost) {
            let lost_to = &mut self.pools[pool].lost_to;
            if let Some(count) = lost_to.get_mut(&winner) {
                *count -= 1;
                if *count == 0 {
                    lost_to.remove(&winner);
                }
            }
        }
        // A match counts whether or not the pool is known, so that a pool that appears later finds
        // its nodes.
        let memberships = self.nodes[id].object.as_ref().map(|node| node.pools.clone());
        let memberships = memberships.unwrap_or_default();
        let mut claimed: Vec<_> =
            memberships.iter().map(|membership| self.pools.entry(&membership.pool)).collect();
        claimed.sort();
        claimed.dedup();
        for &pool in &claimed {
            self.pools[pool].claims += 1;
        }
        let before = std::mem::replace(&mut self.nodes[id].claims, claimed.clone());
        for &pool in &before {
            self.pools[pool].claims -= 1;
        }

        let mut candidates: Vec<_> = claimed
            .iter()
            .filter_map(|&pool| Some((pool, self.pools[pool].object.as_ref()?)))
            .collect();
        candidates.sort_by(|(_, a), (_, b)| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let (mut hosts, mut lost): (Vec<Host>, Vec<_>) = (Vec::new(), Vec::new());
        for (pool, _) in candidates {
            let resource = self.pools[pool].resource;
            match hosts.iter().find(|host| host.resource == resource) {
                Some(host) => lost.push((pool, self.pools.name(host.pool).clone())),
                None => hosts.push(Host::new(pool, resource)),
            }
        }
        for (pool, winner) in &lost {
            *self.pools[*pool].lost_to.entry(winner.clone()).or_default() += 1;
        }
        self.nodes[id].hosts = hosts;
        self.nodes[id].lost = lost;
        for pool in before {
            self.forget_pool(pool);
        }
    }

    /// Updates what a node offers to each of its pools.
    fn read_node(&mut self, id: Id<NodeRow>) {
        let mut hosts = std::mem::take(&mut self.nodes[id].hosts);
        for host in &mut hosts {
            let pool = self.pools[host.pool].object.as_ref();
            let Some((node, pool)) = self.nodes[id].object.as_ref().zip(pool) else {
                continue;
            };
            let gpus = node.gpus.iter().find(|(resource, _)| *resource == pool.resource);
            host.allocatable = gpus.map_or(0, |(_, count)| *count);
            let lost = node.lost.iter().find(|(resource, _)| *resource == pool.resource);
            host.lost = lost.map_or(0, |(_, count)| *count);
            host.shrunk = node.shrunk_at.is_some();
            let member = node.pools.iter().find(|member| member.pool == pool.name);
            let tolerated = member.is_some_and(|member| member.tolerated);
            host.open = tolerated && node.condition == NodeCondition::Ready;
            host.cleared_whole = pool.reclaim_unit == ReclaimUnit::Node;
            let skipped = node.autoscaled && pool.autoscaled_nodes == AutoscaledNodes::Skip;
            let runs_miners = member.is_some_and(|member| member.runs_miners);
            let never = skipped || !runs_miners || node.shrunk_at.is_some();
            host.mines = if never { Mines::Never } else { Mines::Yes };
        }
        self.nodes[id].hosts = hosts;
    }

    /// Recounts a node's account and updates its hosts' entries in their pools.
    pub(crate) fn recount(&mut self, id: Id<NodeRow>) {
        let mut hosts = std::mem::take(&mut self.nodes[id].hosts);
        let row = &self.nodes[id];
        let mut used = NodeUse::default();
        hosts.iter_mut().for_each(Host::clear);
        for holder in &row.pods {
            used.count(holder);
            if let Some(host) = hosts.iter_mut().find(|host| host.resource == holder.resource) {
                host.count(holder);
            }
        }
        for &pod in &row.nominees {
            let pod = &self.pods[pod].pod;
            used.claimed += Amounts::of_pod(pod);
            for (resource, count) in &pod.gpus {
                let resource = self.resources.find(resource);
                if let Some(host) = hosts.iter_mut().find(|host| Some(host.resource) == resource) {
                    host.expected += count;
                }
            }
        }
        for hold in &row.holds {
            used.claimed += Amounts::of(&hold.shape, hold.workers);
            if let Some(host) = hosts.iter_mut().find(|host| host.resource == hold.resource) {
                let gpus = hold.gpus();
                *(if hold.reserved { &mut host.reserved } else { &mut host.expected }) += gpus;
            }
        }
        // A node that is cleared for AI as a whole stays clear until the AI pods are bound.
        let kept_clear = hosts.iter().any(|host| host.cleared_whole && host.claimed() > 0);
        for host in hosts.iter_mut().filter(|host| host.mines != Mines::Never) {
            host.mines = if kept_clear { Mines::KeptClear } else { Mines::Yes };
        }
        let at = (row.order, id);
        for host in &mut hosts {
            let filed = host.file();
            // Most recounts leave the entry as it is, and moving it between buckets is what costs.
            if host.filed != Some(filed) {
                let pool = &mut self.pools[host.pool];
                if let Some(old) = host.filed.replace(filed) {
                    pool.sums -= old.sums;
                    pool.buckets.remove(&old, at);
                }
                pool.sums += filed.sums;
                pool.buckets.insert(&filed, at);
            }
        }
        self.nodes[id].hosts = hosts;
        self.nodes[id].used = used;
        if self.nodes[id].holds.iter().any(|hold| hold.reserved) && self.is_short(id) {
            self.short.insert(at);
        } else {
            self.short.remove(&at);
        }
    }

    /// Returns whether more miners must stop on a node before all that is reserved there can be had.
    fn is_short(&self, id: Id<NodeRow>) -> bool {
        let row = &self.nodes[id];
        row.hosts.iter().any(|host| host.short() > 0)
            || row.used.mining.pods > 0
                && (self.clears_whole(id) || !self.room(id).covers(&Amounts::default()))
    }

    /// Returns whether a reservation requires that all miners leave the node.
    pub(crate) fn clears_whole(&self, id: Id<NodeRow>) -> bool {
        self.nodes[id].hosts.iter().any(|host| host.cleared_whole && host.reserved > 0)
    }

    /// Returns the CPU, memory and pod slots of a node that are free once the stopping miners have
    /// stopped and all promises are kept; negative if short.
    pub(crate) fn room(&self, id: Id<NodeRow>) -> Amounts {
        let row = &self.nodes[id];
        self.capacity(id) - row.used.fixed - row.used.mining - row.used.claimed
    }

    /// Returns the allocatable CPU, memory, huge pages and pod slots of a node.
    pub(crate) fn capacity(&self, id: Id<NodeRow>) -> Amounts {
        self.nodes[id].object.as_ref().map_or_else(Amounts::default, |node| Amounts {
            cpu_milli: node.cpu_milli.cast_signed(),
            memory: node.memory.cast_signed(),
            huge_pages: node.huge_pages.map(u64::cast_signed),
            pods: i64::from(node.pod_slots),
        })
    }

    fn unfile(&mut self, id: Id<NodeRow>) {
        let at = self.at(id);
        self.short.remove(&at);
        let mut hosts = std::mem::take(&mut self.nodes[id].hosts);
        for host in &mut hosts {
            if let Some(old) = host.filed.take() {
                let pool = &mut self.pools[host.pool];
                pool.sums -= old.sums;
                pool.buckets.remove(&old, at);
            }
        }
        self.nodes[id].hosts = hosts;
    }
}

/// Returns whether the plan for a node depends on the time.
fn depends_on_time(node: &Node) -> bool {
    node.shrunk_at.is_some() || node.quarantined_until.is_some()
}
