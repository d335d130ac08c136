//! Watches of objects that the controller does not watch: exporters' pods, `LeaseRecord`s,
//! `Declaration`s, volume claims, and the admission policies with their bindings.

use daylight_cluster::Change;
use daylight_cluster::slim::{Custom, ExporterPod, VolumeClaim};
use daylight_cluster::store::Stored;
use daylight_cluster::watch::{self, Selectors, Source, Task};
use daylight_crds::{Declaration, LeaseRecord};
use futures::FutureExt as _;
use futures::future::select_all;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Client;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;

use super::exporter::discovery::ExporterName;

/// Changes that wait: as many as the main loop takes at most before it books again.
const WAITING: usize = 1024;

/// Change of such an object.
pub(super) enum OtherChange {
    /// In the namespace of an exporter, with its number in the order of the installation.
    Exporter(usize, Change<ExporterPod>),
    Record(Change<Custom<LeaseRecord>>),
    Claim(Change<VolumeClaim>),
    Declaration(Change<Custom<Declaration>>),
    Policy(Change<Custom<ValidatingAdmissionPolicy>>),
    Binding(Change<Custom<ValidatingAdmissionPolicyBinding>>),
}

/// Running watches. They end when this is dropped.
pub(super) struct OtherWatches {
    records: mpsc::Receiver<Change<Custom<LeaseRecord>>>,
    claims: mpsc::Receiver<Change<VolumeClaim>>,
    declarations: mpsc::Receiver<Change<Custom<Declaration>>>,
    policies: mpsc::Receiver<Change<Custom<ValidatingAdmissionPolicy>>>,
    bindings: mpsc::Receiver<Change<Custom<ValidatingAdmissionPolicyBinding>>>,
    exporters: Vec<mpsc::Receiver<Change<ExporterPod>>>,
    _tasks: JoinSet<()>,
    /// The watches end with it. No list is ever requested again through it.
    _rounds: channel::Sender<u64>,
}

impl OtherWatches {
    /// Starts to watch records and claims, and the pods in the namespace of each exporter.
    pub(super) fn start(
        client: &Client,
        settings: &watch::Settings,
        exporters: &[ExporterName],
    ) -> Self {
        let (rounds, round) = channel::channel(0);
        let mut start = Start { client, settings, round, tasks: JoinSet::new() };
        let records = start.watch("/apis/daylight.dev/v1alpha1/leaserecords".into());
        let declarations = start.watch("/apis/daylight.dev/v1alpha1/declarations".into());
        let claims = start.watch("/api/v1/persistentvolumeclaims".into());
        let admission = |kind: &str| format!("/apis/admissionregistration.k8s.io/v1/{kind}");
        let policies = start.watch(admission("validatingadmissionpolicies"));
        let bindings = start.watch(admission("validatingadmissionpolicybindings"));
        let exporters = exporters
            .iter()
            .map(|exporter| start.watch(format!("/api/v1/namespaces/{}/pods", exporter.namespace)));
        let exporters = exporters.collect();
        Self {
            records,
            claims,
            declarations,
            policies,
            bindings,
            exporters,
            _tasks: start.tasks,
            _rounds: rounds,
        }
    }

    /// Waits for the next change; `None` once a watch has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<OtherChange> {
        let Self { records, claims, declarations, policies, bindings, exporters, .. } = self;
        let record = records.recv().map(|change| change.map(OtherChange::Record)).boxed();
        let claim = claims.recv().map(|change| change.map(OtherChange::Claim)).boxed();
        let declaration =
            declarations.recv().map(|change| change.map(OtherChange::Declaration)).boxed();
        let policy = policies.recv().map(|change| change.map(OtherChange::Policy)).boxed();
        let binding = bindings.recv().map(|change| change.map(OtherChange::Binding)).boxed();
        let exporters = exporters.iter_mut().enumerate().map(|(number, changes)| {
            let changed = move |change| OtherChange::Exporter(number, change);
            changes.recv().map(move |change| change.map(changed)).boxed()
        });
        select_all([record, claim, declaration, policy, binding].into_iter().chain(exporters))
            .await
            .0
    }
}

/// Watches that are being started.
struct Start<'a> {
    client: &'a Client,
    settings: &'a watch::Settings,
    round: channel::Receiver<u64>,
    tasks: JoinSet<()>,
}

impl Start<'_> {
    /// Starts to watch the objects at a path.
    fn watch<T: Stored + Clone + DeserializeOwned + Send + 'static>(
        &mut self,
        path: String,
    ) -> mpsc::Receiver<Change<T>> {
        let (to, changes) = mpsc::channel(WAITING);
        let source = Source::new(path, Selectors::default(), std::convert::identity);
        let task = Task::new(self.client.clone(), source, self.settings.clone());
        self.tasks.spawn(task.run(to, self.round.clone()));
        changes
    }
}
