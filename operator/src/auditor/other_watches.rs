//! Watches of objects that the controller does not watch: exporters' pods, and `LeaseRecord`s.

use daylight_cluster::Change;
use daylight_cluster::slim::{Custom, ExporterPod};
use daylight_cluster::watch::{self, Selectors, Source, Task};
use daylight_crds::LeaseRecord;
use futures::FutureExt as _;
use futures::future::select_all;
use kube::Client;
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
}

/// Running watches. They end when this is dropped.
pub(super) struct OtherWatches {
    records: mpsc::Receiver<Change<Custom<LeaseRecord>>>,
    exporters: Vec<mpsc::Receiver<Change<ExporterPod>>>,
    _tasks: JoinSet<()>,
    /// The watches end with it. No list is ever requested again through it.
    _rounds: channel::Sender<u64>,
}

impl OtherWatches {
    /// Starts to watch records, and the pods in the namespace of each exporter.
    pub(super) fn start(
        client: &Client,
        settings: &watch::Settings,
        exporters: &[ExporterName],
    ) -> Self {
        let (rounds, round) = channel::channel(0);
        let mut tasks = JoinSet::new();
        let (to, records) = mpsc::channel(WAITING);
        let path = "/apis/daylight.dev/v1alpha1/leaserecords".to_owned();
        let source = Source::new(path, Selectors::default(), std::convert::identity);
        let task = Task::new(client.clone(), source, settings.clone());
        tasks.spawn(task.run(to, round.clone()));
        let exporters = exporters.iter().map(|exporter| {
            let (to, changes) = mpsc::channel(WAITING);
            let path = format!("/api/v1/namespaces/{}/pods", exporter.namespace);
            let source = Source::new(path, Selectors::default(), std::convert::identity);
            let task = Task::new(client.clone(), source, settings.clone());
            tasks.spawn(task.run(to, round.clone()));
            changes
        });
        let exporters = exporters.collect();
        Self { records, exporters, _tasks: tasks, _rounds: rounds }
    }

    /// Waits for the next change; `None` once a watch has ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<OtherChange> {
        let Self { records, exporters, .. } = self;
        let record = records.recv().map(|change| change.map(OtherChange::Record)).boxed();
        let exporters = exporters.iter_mut().enumerate().map(|(number, changes)| {
            let changed = move |change| OtherChange::Exporter(number, change);
            changes.recv().map(move |change| change.map(changed)).boxed()
        });
        select_all(std::iter::once(record).chain(exporters)).await.0
    }
}
