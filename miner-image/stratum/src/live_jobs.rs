//! The jobs of a connection that shares may be for.

use std::collections::HashMap;

/// Jobs by name, each with what a share for it needs. Of more without a clean one, the oldest expire,
/// so that a pool cannot make a session grow without end.
#[derive(Debug)]
pub(crate) struct LiveJobs<T> {
    /// With the count of jobs at their arrival.
    jobs: HashMap<String, (T, u64)>,
    count: u64,
}

/// Most jobs at a time.
const MOST: u64 = 64;

impl<T> LiveJobs<T> {
    pub(crate) fn new() -> Self {
        Self { jobs: HashMap::new(), count: 0 }
    }

    /// Enters a job, or changes it.
    pub(crate) fn insert(&mut self, id: String, job: T) {
        self.count += 1;
        self.jobs.insert(id, (job, self.count));
        let oldest = self.count.saturating_sub(MOST);
        self.jobs.retain(|_, (_, came)| *came > oldest);
        debug_assert!(self.jobs.len() as u64 <= MOST, "live jobs are bounded");
    }

    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        self.jobs.get(id).map(|(job, _)| job)
    }

    pub(crate) fn clear(&mut self) {
        self.jobs.clear();
    }
}
