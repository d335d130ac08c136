//! What the auditor writes in the cluster: its own finalizer away, what registrations have used,
//! whether pools are metered, and `LeaseRecord`s away that are in the journal.

use daylight_base::Timestamp;
use daylight_crds::{CONDITION_METERED, GpuPool, JOURNAL_FULL, Millijoules, Registration};
use daylight_meter::{Imbalance, Usage};
use http::Request;
use http::header::CONTENT_TYPE;
use kube::Client;
use serde_json::json;

use crate::conditions::{Conditions, Why, time};
use crate::api_requests::{self, ApiRequest};

/// As which manager the auditor writes.
pub(super) const MANAGER: &str = "daylight/auditor";

/// Takes the auditor's finalizer off a pod, and no other.
pub(super) fn release(key: &str, uid: &str) -> ApiRequest {
    api_requests::release_pod(key, uid, MANAGER)
}

/// Sends a request. What is gone or changed meanwhile is no trouble.
pub(super) async fn send(client: Client, write: ApiRequest) {
    let ApiRequest { what, method, path, content_type, body } = write;
    let request = Request::builder()
        .method(method)
        .uri(&path)
        .header(CONTENT_TYPE, content_type)
        .body(body.to_vec())
        .map_err(kube::Error::HttpError);
    let answer = match request {
        Ok(request) => client.request_text(request).await,
        Err(error) => Err(error),
    };
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(what, path, %error, "A request failed."),
        Ok(_) => {}
    }
}

/// What a registration has used, as its status; `None` where it is not metered.
pub(super) fn usage(key: &str, registration: &Registration, usage: &Usage) -> Option<ApiRequest> {
    let used = daylight_crds::Usage {
        metered_until: time(usage.metered_until?)?,
        period_start: time(usage.start)?,
        millijoules: Millijoules(usage.millijoules),
        peak_watts: (usage.peak_watts > 0).then_some(usage.peak_watts),
    };
    let uid = registration.metadata.uid.as_deref()?;
    let status = json!({ "usage": used });
    Some(api_requests::apply_status::<Registration>(key, uid, MANAGER, &status))
}

/// How the books stand.
pub(super) struct Standing<'a> {
    /// Why the journal cannot be written.
    pub(super) trouble: Option<&'a str>,
    /// Whether entries that wait for it still find room in memory.
    pub(super) has_room: bool,
    /// What of the books does not close.
    pub(super) imbalance: Option<Imbalance>,
}

impl Standing<'_> {
    fn why(&self) -> (bool, Why) {
        match (self, self.trouble) {
            (Self { has_room: false, .. }, trouble) => {
                let trouble = trouble.unwrap_or("the journal is too slow");
                let sentence = format!(
                    "Nothing more can be taken on record ({trouble}), and no miner is started until it can."
                );
                (false, Why::new(JOURNAL_FULL, &sentence))
            }
            (_, Some(trouble)) => {
                let sentence = format!("What happens is kept in memory only: {trouble}.");
                (false, Why::new("JournalUnwritable", &sentence))
            }
            (Self { imbalance: Some(imbalance), .. }, None) => {
                (false, Why::new("BooksOpen", &format!("{imbalance}, which is a bug.")))
            }
            _ => (true, Why::new("Metering", "Every lease is taken on record.")),
        }
    }
}

/// Whether a pool is metered, as a condition; `None` where that is said already.
pub(super) fn metered(pool: &GpuPool, standing: &Standing<'_>, now: Timestamp) -> Option<ApiRequest> {
    let (holds, why) = standing.why();
    let observed = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = pool.metadata.generation;
    let wanted = Conditions { observed, generation, now }.make(CONDITION_METERED, holds, &why);
    if observed.contains(&wanted) {
        return None;
    }
    let (name, uid) = (pool.metadata.name.as_deref()?, pool.metadata.uid.as_deref()?);
    let status = json!({ "conditions": [wanted] });
    Some(api_requests::apply_status::<GpuPool>(name, uid, MANAGER, &status))
}
