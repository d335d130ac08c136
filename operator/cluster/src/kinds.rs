//! Table of the watched kinds; the stores, events and changes of each kind are generated from it.

use std::time::Instant;

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};

use crate::event::{Change, Round, WatchFailure};
use crate::keys;
use crate::names::Names;
use crate::slim::{
    AdmissionList, BatchJob, ConfigMap, Custom, Namespace, Node, Pod, RuntimeClass, Workload,
};
use crate::store::{Changed, Store, Stored};

/// Passes the table of watched kinds to a macro: kind, store, type of the objects, name in
/// messages.
macro_rules! for_each_kind {
    ($macro:ident) => {
        $macro! {
            Pod, pods, Pod, "Pod";
            Node, nodes, Node, "Node";
            Namespace, namespaces, Namespace, "Namespace";
            BatchJob, batch_jobs, BatchJob, "Job";
            GpuPool, pools, Custom<GpuPool>, "GpuPool";
            ActivityClass, classes, Custom<ActivityClass>, "ActivityClass";
            Registration, registrations, Custom<Registration>, "Registration";
            Miner, miners, Custom<Miner>, "Miner";
            AiJob, ai_jobs, Custom<AiJob>, "AIJob";
            EmergencyStop, emergency_stop, ConfigMap, "ConfigMap of the emergency stop";
            RegistrationMirror, registration_mirror, AdmissionList, "AdmissionList of registrations";
            ClassMirror, class_mirror, AdmissionList, "AdmissionList of classes";
            AuthorityKeys, authority_keys, ConfigMap, "ConfigMap of the authority's keys";
            Workload, workloads, Workload, "Workload";
            RuntimeClass, runtime_classes, RuntimeClass, "RuntimeClass";
        }
    };
}

pub(crate) use for_each_kind;

macro_rules! define {
    ($($kind:ident, $store:ident, $type:ty, $name:literal;)*) => {
        /// A kind of object that is watched.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display)]
        #[derive(strum::VariantArray)]
        pub enum Kind {
            $(#[strum(serialize = $name)] $kind,)*
        }

        /// An observation of one watch.
        #[derive(Clone, Debug)]
        pub enum Event {
            $($kind(Change<$type>),)*
        }

        /// The objects that an event changed, by kind.
        #[derive(Debug)]
        pub enum Touched {
            $($kind(Vec<Changed<$type>>),)*
        }

        /// The cluster as reported by the watches and by the answers to Daylight's own writes.
        ///
        /// Read the stores freely; change them only by [`Cluster::apply`] and by the functions of
        /// [`Store`] for answers to writes.
        #[derive(Debug, Default)]
        pub struct Cluster {
            /// Shared copies of the names that many objects repeat.
            pub names: Names,
            $(pub $store: Store<$type>,)*
        }

        impl Event {
            /// Returns `true` if a list of the kind is complete with this event.
            pub fn completes_list(&self) -> bool {
                match self {
                    $(Event::$kind(change) => matches!(change, Change::Listed { .. }),)*
                }
            }
        }

        impl Event {
            /// Returns the kind of which every change before a moment has been reported with this
            /// event, and the moment.
            pub fn current(&self) -> Option<(Kind, Instant)> {
                match self {
                    $(Event::$kind(Change::Current(as_of)) => Some((Kind::$kind, *as_of)),)*
                    _ => None,
                }
            }
        }

        impl Cluster {
            /// Notes that every change of a kind before this time has been reported, as the server
            /// states.
            pub fn note_current(&mut self, kind: Kind, reported_until: Timestamp) {
                match kind {
                    $(Kind::$kind => self.$store.note_current(reported_until),)*
                }
            }

            /// Moves the times that are remembered, because the clock was set.
            pub fn move_times(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
                $(self.$store.move_times(&moved);)*
            }

            /// Applies an observation and returns the objects that changed.
            pub fn apply(&mut self, event: Event) -> Touched {
                match event {
                    $(Event::$kind(mut change) => {
                        change.edit(|object| object.share(&mut self.names));
                        Touched::$kind(self.$store.apply(change))
                    })*
                }
            }

            /// Number of objects of a kind.
            pub fn count(&self, kind: Kind) -> usize {
                match kind {
                    $(Kind::$kind => self.$store.len(),)*
                }
            }

            /// Returns the keys of all objects of a kind, sorted.
            pub fn keys(&self, kind: Kind) -> Vec<Name> {
                match kind {
                    $(Kind::$kind => keys(&self.$store),)*
                }
            }

            /// Returns `true` if the watch of a kind reports every change, as far as is known.
            pub(crate) fn is_reported(&self, kind: Kind) -> bool {
                match kind {
                    $(Kind::$kind => self.$store.is_reported(),)*
                }
            }

            /// Returns the latest complete list of a kind, and the failure of its watch.
            pub(crate) fn watch_state(&self, kind: Kind) -> (Option<Round>, Option<&WatchFailure>) {
                match kind {
                    $(Kind::$kind => (self.$store.listed(), self.$store.failure()),)*
                }
            }
        }
    };
}

for_each_kind!(define);

impl Kind {
    /// All kinds.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns `true` if the cluster is complete without the kind. Workloads belong to another system,
    /// which may not be installed; what a `RuntimeClass` adds to pods shows in the first pod, too.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Workload | Self::RuntimeClass)
    }
}
