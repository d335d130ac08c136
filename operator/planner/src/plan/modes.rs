//! The mode of each pool: whether it mines now.

use daylight_base::{Name, Timestamp};

use crate::explain::{Reason, ReclaimReason};
use crate::model::{MiningPolicy, Recording};
use crate::plan::Run;
use crate::state::PoolRow;
use crate::state::table::Id;
use crate::windows::WindowState;

/// The mode of a pool.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// Idle GPUs go to miners, until the moment given.
    Fill(Option<Timestamp>),
    /// Nothing is granted; the plan reports what would be, until the moment given.
    Observe(Option<Timestamp>),
    /// Miners stay, none is added.
    Keep(Reason),
    /// Miners stop: the reason for their pods, and for the status of pool and miners.
    Stop(ReclaimReason, Reason),
}

impl Run<'_> {
    /// Determines the mode of a pool.
    pub(super) fn mode(&mut self, id: Id<PoolRow>) -> Mode {
        let Some(pool) = self.state.pools[id].object.clone() else {
            return Mode::Stop(
                ReclaimReason::PoolDrained,
                Reason::PoolUnknown { pool: self.state.pools.name(id).clone() },
            );
        };
        if let Some(stop) = &self.state.emergency_stop {
            let reason = Reason::EmergencyStop { by: stop.by.clone(), reason: stop.reason.clone() };
            return Mode::Stop(ReclaimReason::EmergencyStop, reason);
        }
        if let Some(horizon) = pool.windows.horizon() {
            self.wake(horizon);
        }
        if pool.policy == MiningPolicy::Drain {
            let reason = Reason::Draining { pool: pool.name.clone() };
            return Mode::Stop(ReclaimReason::PoolDrained, reason);
        }
        // The other fields of an invalid pool cannot be relied on, so nothing is started or stopped.
        if let Some(problem) = pool.problem {
            return Mode::Keep(Reason::Invalid { problem });
        }
        let until = match pool.windows.at(self.now) {
            WindowState::Closed(opens) => {
                opens.into_iter().for_each(|at| self.wake(at));
                return closed(pool.name, opens);
            }
            // Miners must have stopped by the end, so they are asked to stop a drain earlier.
            WindowState::Open(Some(end)) if self.now >= end - pool.drain_timeout => {
                self.wake(end);
                let opens = match pool.windows.at(end) {
                    WindowState::Open(_) => Some(end),
                    WindowState::Closed(opens) => opens,
                };
                return closed(pool.name, opens);
            }
            WindowState::Open(until) => until,
        };
        if let Some(end) = until {
            self.wake(end - pool.drain_timeout);
        }
        if pool.recording == Recording::Full && pool.policy != MiningPolicy::Observe {
            return Mode::Keep(Reason::JournalFull { pool: pool.name });
        }
        match pool.policy {
            MiningPolicy::Fill => Mode::Fill(until),
            MiningPolicy::Observe => Mode::Observe(until),
            MiningPolicy::Hold | MiningPolicy::Drain => {
                Mode::Keep(Reason::Holding { pool: pool.name })
            }
        }
    }
}

fn closed(pool: Name, opens: Option<Timestamp>) -> Mode {
    Mode::Stop(ReclaimReason::WindowClosed, Reason::WindowClosed { pool, opens })
}
