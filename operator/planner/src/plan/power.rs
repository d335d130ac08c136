//! Power that counts against the caps on watts: the larger of what miners declare and what was
//! measured.

use std::collections::BTreeMap;

use crate::model::Role;
use crate::plan::energy::{peak_watts, projected_watts};
use crate::plan::{Run, lease};
use crate::state::table::Id;
use crate::state::{Declared, Held, PodRow, PoolRow, RegistrationRow};

/// The replicas of which power is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Those that run on: what remains once the others have stopped.
    Active,
    /// Those that are stopping, too.
    All,
    /// Those that run on, and those for which places are kept until others have stopped.
    Then,
}

impl Counted {
    fn of(self, held: &Held) -> Declared {
        match self {
            Self::Active => held.active,
            Self::All => held.declared(),
            Self::Then => held.declared_then(),
        }
    }

    /// Returns the GPUs of the replicas.
    pub(super) fn gpus(self, held: &Held) -> u32 {
        match self {
            Self::Active => held.active_gpus,
            Self::All => held.gpus(),
            Self::Then => held.gpus_then(),
        }
    }
}

impl Run<'_> {
    /// Returns the watts that count for a registration, with `more` replicas under it.
    pub(super) fn registration_watts(
        &self,
        id: Id<RegistrationRow>,
        counted: Counted,
        more: Declared,
    ) -> u64 {
        self.counted_watts(id, counted.of(&self.state.registrations[id].held).plus(more))
    }

    /// Returns the watts that count for the replicas of a registration that run on.
    pub(super) fn active_watts(&self, id: Id<RegistrationRow>) -> u64 {
        self.registration_watts(id, Counted::Active, Declared::default())
    }

    /// Returns the watts that count for a pool, with `more` replicas under a registration.
    pub(super) fn pool_watts(
        &self,
        id: Id<PoolRow>,
        counted: Counted,
        more: Option<(Id<RegistrationRow>, Declared)>,
    ) -> u64 {
        let held_under = &self.state.pools[id].held_under;
        let held = held_under.iter().map(|(registration, held)| {
            let more = more.filter(|(of, _)| of == registration).map(|(_, more)| more);
            (*registration, counted.of(held).plus(more.unwrap_or_default()))
        });
        let first = more.filter(|(registration, _)| !held_under.contains_key(registration));
        let watts = held.chain(first).map(|(id, declared)| self.counted_watts(id, declared));
        watts.fold(0, u64::saturating_add)
    }

    /// Returns the watts that count for a pool once the stopping miners have stopped, and these of its
    /// pods too, with `more` replicas under a registration.
    pub(super) fn pool_watts_without(
        &self,
        id: Id<PoolRow>,
        pods: &[Id<PodRow>],
        more: (Id<RegistrationRow>, Declared),
    ) -> u64 {
        let held_under = self.state.pools[id].held_under.iter();
        let mut declared: BTreeMap<_, _> =
            held_under.map(|(&id, held)| (id, Counted::Then.of(held))).collect();
        let under = declared.entry(more.0).or_default();
        *under = under.plus(more.1);
        for &pod in pods {
            if let (Some((_, registration, _)), Role::Miner { watts, .. }) =
                (lease(&self.state.pods[pod]), &self.state.pods[pod].pod.role)
            {
                let under = declared.entry(registration).or_default();
                *under = under.minus(Declared { replicas: 1, watts: *watts });
            }
        }
        let watts = declared.into_iter().map(|(id, declared)| self.counted_watts(id, declared));
        watts.fold(0, u64::saturating_add)
    }

    fn counted_watts(&self, id: Id<RegistrationRow>, declared: Declared) -> u64 {
        let object = self.state.registrations[id].object.as_ref();
        let peak = peak_watts(object.and_then(|object| object.usage));
        projected_watts(declared.watts, declared.replicas.into(), peak)
    }
}
