//! Watches of objects that the controller does not watch: exporters' pods, and `LeaseRecord`s.

use daylight_cluster::Change;
use daylight_cluster::slim::{Custom, ExporterPod};
use daylight_cluster::watch::{self, Selectors, Source, Task};
use daylight_crds::LeaseRecord;
use kube::Client;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;

use super::exporter::discovery::ExporterName;

/// Change of such an object.
pub(super) enum OtherChange {
    Exporter(Change<ExporterPod>),
    Record(Change<Custom<LeaseRecord>>),
}

/// Running watches. They end when this is dropped.
pub(super) struct OtherWatches {
    changes: mpsc::Receiver<OtherChange>,
    _tasks: JoinSet<()>,
    /// The watches end with it. No list is ever requested again through it.
    _rounds: channel::Sender<u64>,
}

impl OtherWatches {
    /// Starts to watch records, and the pods in the namespace of the exporter if there is one.
    pub(super) fn start(
        client: &Client,
        settings: &watch::Settings,
        exporter: Option<&ExporterName>,
    ) -> Self {
        // As many as the main loop takes at most before it books again.
        let (to, changes) = mpsc::channel(1024);
        let (rounds, round) = channel::channel(0);
        let mut tasks = JoinSet::new();
        let path = "/apis/daylight.dev/v1alpha1/leaserecords".to_owned();
        let source = Source::new(path, Selectors::default(), OtherChange::Record);
        let task = Task::new(client.clone(), source, settings.clone());
        tasks.spawn(task.run(to.clone(), round.clone()));
        if let Some(exporter) = exporter {
            let path = format!("/api/v1/namespaces/{}/pods", exporter.namespace);
            let source = Source::new(path, Selectors::default(), OtherChange::Exporter);
            let task = Task::new(client.clone(), source, settings.clone());
            tasks.spawn(task.run(to, round));
        }
        Self { changes, _tasks: tasks, _rounds: rounds }
    }

    /// Waits for the next change; `None` once all watches have ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<OtherChange> {
        self.changes.recv().await
    }
}
