//! Every lease is on record, and nothing waits for the record.

use daylight_crds::LeaseRecord;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::site::{SOON, Site, eventually};

pub(crate) async fn ends_that_no_auditor_takes_are_written_down_and_hold_nothing_up(
    site: &mut Site,
) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 4, json!({})).await;
    site.start_with(&["--metered", "--record-after", "2s"]);
    site.mines(4).await;
    let pods = site.mining().await;
    for pod in &pods {
        let finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
        assert_eq!(finalizers, ["daylight.dev/metered"]);
    }
    site.ai_job("training", 1, 8, json!({})).await;
    // The GPUs go over at once, whatever is not on record yet.
    site.job_status("training", "running", |status| status["state"] == "Running").await;
    let records: Api<LeaseRecord> = site.namespaced();
    let written = eventually(SOON, "the four ends are written down", || async {
        let records = records.list(&ListParams::default()).await.unwrap().items;
        (records.len() == 4).then_some(records)
    })
    .await;
    for record in written {
        let spec = record.spec;
        let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(&spec.pod_uid));
        assert_eq!(pod.unwrap().metadata.name.as_deref(), Some(&*spec.pod));
        assert_eq!((spec.resource.as_str(), spec.gpus), ("nvidia.com/gpu", 1));
        assert_eq!(spec.pool.as_deref(), Some(&*site.name));
        assert_eq!(spec.activity_class.as_deref(), Some("pow-mining"));
        assert_eq!((spec.registration.as_deref(), spec.watts), (Some("reg"), Some(300)));
        // Times are told in whole seconds.
        let moments = [spec.bound_at, spec.started_at, spec.finished_at, Some(spec.seen_ended_at)];
        assert!(moments.iter().all(Option::is_some) && moments.is_sorted(), "{moments:?}");
    }
    eventually(SOON, "the pods are gone", || async {
        site.pods("daylight.dev/miner").await.is_empty().then_some(())
    })
    .await;
}
