//! The work on the positive list that runs now, whether it requests GPUs or not, added up by account.

use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use daylight_base::Name;
use daylight_cluster::names::parts;
use daylight_cluster::slim::Pod;
use daylight_crds::{ActivityCategory, ActivityClassSpec, ReportColumn};
use rustc_hash::FxHashMap;

use super::View;

/// The account of a sum of work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// The class that the pods declare, which is on the list.
    pub class: Name,
    /// `namespace/name` of the registration that they name, if it exists.
    pub registration: Option<Name>,
    pub namespace: Name,
    /// The first pool that selects their nodes.
    pub pool: Option<Name>,
}

/// What pods have that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    pub pods: u64,
    pub gpus: u64,
    /// Requested.
    pub cpu_milli: u64,
}

impl AddAssign for Running {
    fn add_assign(&mut self, other: Self) {
        let Self { pods, gpus, cpu_milli } = other;
        self.pods += pods;
        self.gpus += gpus;
        self.cpu_milli += cpu_milli;
    }
}

impl SubAssign for Running {
    fn sub_assign(&mut self, other: Self) {
        let Self { pods, gpus, cpu_milli } = other;
        self.pods -= pods;
        self.gpus -= gpus;
        self.cpu_milli -= cpu_milli;
    }
}

/// The sums, kept current pod by pod.
#[derive(Debug, Default)]
pub(super) struct WorkSums {
    sums: FxHashMap<Arc<Work>, Running>,
    of_pods: FxHashMap<Name, (Arc<Work>, Running)>,
}

impl WorkSums {
    fn set(&mut self, pod: &Name, work: Option<(Work, Running)>) {
        let known = self.of_pods.get(pod).map(|(work, running)| (&**work, running));
        if known == work.as_ref().map(|(work, running)| (work, running)) {
            return;
        }
        if let Some((work, running)) = self.of_pods.remove(pod)
            && let Some(sum) = self.sums.get_mut(&work)
        {
            *sum -= running;
            if *sum == Running::default() {
                self.sums.remove(&work);
            }
        }
        if let Some((work, running)) = work {
            let key = self.sums.get_key_value(&work).map(|(key, _)| key.clone());
            let key = key.unwrap_or_else(|| Arc::new(work));
            *self.sums.entry(key.clone()).or_default() += running;
            self.of_pods.insert(pod.clone(), (key, running));
        }
    }
}

/// Returns the columns of declarations in which work of a class is counted: those that it states, or
/// else that of its category.
pub fn report_columns(class: &ActivityClassSpec) -> Vec<ReportColumn> {
    if !class.report_columns.is_empty() {
        return class.report_columns.clone();
    }
    match class.category {
        ActivityCategory::DataIndustry => vec![ReportColumn::Compute],
        ActivityCategory::FinancialRegulated => vec![ReportColumn::Finance],
        ActivityCategory::Declared => vec![ReportColumn::Mining],
        ActivityCategory::Prohibited => Vec::new(),
    }
}

impl View {
    /// Counts the work of a pod again.
    pub(super) fn recount_work(&mut self, key: &Name) {
        let work = self.cluster.pod(key).and_then(|pod| self.work_of(pod));
        self.work.set(key, work);
    }

    fn work_of(&self, pod: &Pod) -> Option<(Work, Running)> {
        let cluster = &self.cluster;
        let node = pod.place().filter(|_| !pod.is_terminal())?;
        let named = pod.registration.as_ref();
        let registration = named.filter(|name| cluster.registrations.get(name).is_some());
        let class = match cluster.class_of(pod) {
            Some(class) => class,
            None => cluster.registration(registration?)?.spec.activity_class.as_str().into(),
        };
        if cluster.is_off_the_list(&class) {
            return None;
        }
        let pools = cluster.node(node).map(|node| self.pools.memberships(node));
        let work = Work {
            class,
            registration: registration.cloned(),
            namespace: parts(&pod.key).0.into(),
            pool: pools.into_iter().flatten().next().map(|membership| membership.pool),
        };
        let gpus = self.gpus_of(pod).map_or(0, |(_, gpus)| gpus.into());
        Some((work, Running { pods: 1, gpus, cpu_milli: pod.requests.cpu_milli }))
    }

    /// Adds up the work of all pods, as the sums should have it.
    #[cfg(test)]
    pub(crate) fn count_work(&self) -> FxHashMap<Work, Running> {
        let mut sums: FxHashMap<Work, Running> = FxHashMap::default();
        for (work, running) in self.cluster.pods().filter_map(|pod| self.work_of(pod)) {
            *sums.entry(work).or_default() += running;
        }
        sums
    }

    /// Returns the work that runs, added up by account, in no order.
    pub fn work(&self) -> impl Iterator<Item = (&Work, Running)> {
        self.work.sums.iter().map(|(work, running)| (&**work, *running))
    }

    /// Returns who does work: the operator of its registration, or the namespace where there is none.
    pub fn owner_of(&self, namespace: &str, registration: Option<&str>) -> String {
        match registration.and_then(|name| self.cluster.registration(name)) {
            Some(registration) => registration.spec.operator.name.clone(),
            None => format!("namespace {namespace}"),
        }
    }

    /// Returns the site of work: that of its registration, or else of its pool.
    pub fn site_of(&self, registration: Option<&str>, pool: Option<&str>) -> Option<String> {
        let registered = registration.and_then(|name| self.cluster.registration(name));
        if let Some(registered) = registered {
            return Some(registered.spec.site.clone());
        }
        Some(self.cluster.pool(pool?)?.spec.site.name.clone())
    }
}
