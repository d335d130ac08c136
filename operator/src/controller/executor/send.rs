//! One request that changes something, sent only under the lease, until the answer is definite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daylight_base::duration;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use strum::IntoStaticStr;
use tokio::time::{sleep, timeout};

use crate::api_requests::{ApiRequest, JSON};
use crate::controller::lease::LeaseValidity;
use crate::controller::metrics::Metrics;
use crate::failure;

/// A definite answer of the API server.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The request was carried out; the body is an object or a status.
    Done(Bytes),
    /// The request was rejected, and repeating it would not help.
    Refused(Box<Status>),
}

/// A request whose outcome is unknown, or that was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// This process does not hold the lease for long enough.
    #[error("this replica does not hold the lease for long enough")]
    NotLeading,
    /// The API server gave no definite answer: the request may have been carried out.
    #[error("the API server gave no definite answer: {0}")]
    Unknown(String),
}

/// Sends requests that change something.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    client: Client,
    validity: LeaseValidity,
    timeout: Duration,
    metrics: Metrics,
}

/// The most times that a request without a definite answer is sent. After that the next plan decides
/// again, from what the watches have shown by then.
const ATTEMPTS: u32 = 8;

/// The reason for which an attempt to write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum WriteError {
    /// Another client changed the object first, or one of this name exists.
    Conflict,
    /// The service account may not, or admission refused it.
    Forbidden,
    Invalid,
    /// The object does not exist any more.
    Missing,
    /// A disruption budget refused an eviction.
    Budget,
    /// The API server was busy.
    Throttled,
    /// The API server failed.
    Server,
    Timeout,
    /// The connection failed.
    Network,
    Other,
}

impl WriteError {
    fn of(status: &Status) -> Self {
        match status.code {
            _ if is_disruption_budget(status) => Self::Budget,
            400 | 422 => Self::Invalid,
            401 | 403 => Self::Forbidden,
            404 | 410 => Self::Missing,
            409 => Self::Conflict,
            429 => Self::Throttled,
            500.. => Self::Server,
            _ => Self::Other,
        }
    }
}

/// The result of one attempt.
enum Attempt {
    Answer(Answer),
    /// The server was busy and did nothing; the pause is its `Retry-After`.
    Busy(Duration),
    /// No definite answer arrived, for this reason.
    Lost(WriteError, String),
}

impl Attempt {
    fn error(&self) -> Option<WriteError> {
        match self {
            Self::Answer(Answer::Done(_)) => None,
            Self::Answer(Answer::Refused(status)) => Some(WriteError::of(status)),
            Self::Busy(_) => Some(WriteError::Throttled),
            Self::Lost(error, _) => Some(*error),
        }
    }
}

impl Sender {
    /// `client` should be fenced ([`crate::controller::fence`]); a request takes at most
    /// `timeout`, here and at the server.
    pub fn new(
        client: Client,
        validity: LeaseValidity,
        timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner { client, validity, timeout, metrics }))
    }

    /// Returns `true` if a request that takes the full time-out would end within the lease.
    pub fn may_send(&self) -> bool {
        self.0.validity.is_current_for(self.0.timeout)
    }

    /// Sends the request until the answer is definite. A request must have the same effect if it
    /// is sent twice; the names and UIDs in it ensure that.
    pub async fn send(&self, write: &ApiRequest) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let result = self.send_until_definite(write).await;
        let metrics = &self.0.metrics;
        metrics
            .write_duration
            .with_label_values(&[write.what])
            .observe(begun.elapsed().as_secs_f64());
        let outcome = match &result {
            Ok(Answer::Done(_)) => "done",
            Ok(Answer::Refused(_)) => "refused",
            Err(Failure::NotLeading) => "not leading",
            Err(Failure::Unknown(_)) => "unknown",
        };
        metrics.writes.with_label_values(&[write.what, outcome]).inc();
        result
    }

    async fn send_until_definite(&self, write: &ApiRequest) -> Result<Answer, Failure> {
        let mut lost = None;
        for attempt in 0..ATTEMPTS {
            if !self.may_send() {
                // An attempt that was lost may still have been carried out, so it decides here.
                return Err(lost.map_or(Failure::NotLeading, Failure::Unknown));
            }
            let made = self.attempt(write).await;
            if let Some(error) = made.error() {
                let errors = &self.0.metrics.write_errors;
                errors.with_label_values(&[write.what, error.into()]).inc();
            }
            let pause = match made {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Busy(pause) => pause,
                Attempt::Lost(_, why) => {
                    tracing::debug!(what = write.what, path = %write.path, %why, "No answer.");
                    lost = Some(why);
                    Duration::from_millis(50 << attempt.min(5))
                }
            };
            sleep(pause).await;
        }
        Err(Failure::Unknown(lost.unwrap_or_else(|| "it stayed busy".into())))
    }

    async fn attempt(&self, write: &ApiRequest) -> Attempt {
        let separator = if write.path.contains('?') { '&' } else { '?' };
        // The server gives up when this process does, so that no change is made after the lease.
        // It accepts whole seconds only.
        let seconds = self.0.timeout.as_secs().max(1);
        let uri = format!("{}{separator}timeout={seconds}s", write.path);
        let request = Request::builder()
            .method(write.method.clone())
            .uri(uri)
            .header(header::CONTENT_TYPE, write.content_type)
            .header(header::ACCEPT, JSON)
            .body(Body::from(write.body.clone()));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Attempt::Lost(WriteError::Other, error.to_string()),
        };
        let exchange = async {
            let response = self.0.client.send(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, kube::Error>((head, body))
        };
        match timeout(self.0.timeout, exchange).await {
            Err(_) => {
                let within = duration::format(self.0.timeout);
                Attempt::Lost(WriteError::Timeout, format!("no answer within {within}"))
            }
            Ok(Err(error)) => Attempt::Lost(WriteError::Network, failure::chain(&error)),
            Ok(Ok((head, body))) => judge(head.status, &head.headers, body),
        }
    }
}

fn judge(code: StatusCode, headers: &http::HeaderMap, body: Bytes) -> Attempt {
    if code.is_success() {
        return Attempt::Answer(Answer::Done(body));
    }
    let status = status_of(code, &body);
    let wait = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds.min(5)));
    match code {
        // The eviction API also answers 429 where a disruption budget refuses, which no wait changes.
        StatusCode::TOO_MANY_REQUESTS if !is_disruption_budget(&status) => {
            Attempt::Busy(wait.unwrap_or(Duration::from_secs(1)))
        }
        // Also what the eviction API answers, every time, where more than one budget covers the pod.
        StatusCode::INTERNAL_SERVER_ERROR if is_definite(&status) => {
            Attempt::Answer(Answer::Refused(Box::new(status)))
        }
        code if code.is_server_error() => Attempt::Lost(WriteError::Server, status.message),
        _ => Attempt::Answer(Answer::Refused(Box::new(status))),
    }
}

fn status_of(code: StatusCode, body: &[u8]) -> Status {
    let mut status: Status = serde_json::from_slice(body).unwrap_or_else(|_| Status {
        message: String::from_utf8_lossy(body).into_owned(),
        ..Status::default()
    });
    status.code = code.as_u16();
    status
}

/// Returns `true` if a `PodDisruptionBudget` refused an eviction.
pub fn is_disruption_budget(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| {
        details.causes.iter().any(|cause| cause.reason == "DisruptionBudget")
    }) || status.message.contains("disruption budget")
}

/// Returns `true` if an internal error means that nothing was changed, and will not be by trying
/// again at once. The API server refuses the eviction of a pod with two budgets like that, and gives no
/// reason but the text (`pkg/registry/core/pod/storage/eviction.go`).
fn is_definite(status: &Status) -> bool {
    status.message.contains("PodDisruptionBudget")
        || status.message.contains("disruption budget")
        || is_webhook_failure(status)
}

/// Returns `true` if the API server could not call an admission webhook, which it does before it
/// stores anything. The text is its only sign (`apiserver/pkg/admission/plugin/webhook`).
pub fn is_webhook_failure(status: &Status) -> bool {
    status.message.starts_with("Internal error occurred: failed calling webhook ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::response::IntoResponse as _;
    use serde_json::json;

    use http::Method;

    use super::*;

    /// A sender whose n-th request is answered by `answer(n)`.
    fn sender<F>(held: Duration, answer: F) -> (Sender, Arc<AtomicUsize>)
    where
        F: Fn(usize) -> (u16, serde_json::Value) + Clone + Send + Sync + 'static,
    {
        let count = Arc::new(AtomicUsize::new(0));
        let requests = count.clone();
        let router = Router::new().fallback(move || {
            let number = requests.fetch_add(1, Ordering::SeqCst);
            let (code, body) = answer(number);
            async move {
                if code == 0 {
                    sleep(Duration::from_hours(1)).await;
                }
                (StatusCode::from_u16(code).unwrap(), axum::Json(body)).into_response()
            }
        });
        let validity = LeaseValidity::default();
        validity.hold_for_test(held, Instant::now());
        let client = Client::new(router, "default");
        let metrics = Metrics::new().unwrap();
        (Sender::new(client, validity, Duration::from_millis(200), metrics), count)
    }

    fn write() -> ApiRequest {
        ApiRequest {
            what: "create pod",
            method: Method::POST,
            path: "/api/v1/namespaces/n/pods?fieldManager=x".into(),
            content_type: JSON,
            body: Bytes::from_static(b"{}"),
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_request_without_an_answer_is_sent_again() {
        let (sender, count) =
            sender(
                LONG,
                |number| {
                    if number == 0 { (0, json!({})) } else { (201, json!({"kind": "Pod"})) }
                },
            );
        let answer = sender.send(&write()).await.unwrap();
        assert!(matches!(answer, Answer::Done(_)));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(errors(&sender, "timeout"), 1);
    }

    fn errors(sender: &Sender, category: &str) -> u64 {
        sender.0.metrics.write_errors.with_label_values(&["create pod", category]).get()
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let (sender, count) = sender(LONG, |_| {
            (403, json!({"kind": "Status", "message": "exceeded quota", "code": 403}))
        });
        let Ok(Answer::Refused(status)) = sender.send(&write()).await else {
            panic!("not refused");
        };
        assert_eq!(status.message, "exceeded quota");
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(errors(&sender, "forbidden"), 1);
    }

    #[tokio::test]
    async fn a_budgets_refusal_is_final_and_a_busy_server_is_tried_again() {
        let budget = json!({
            "kind": "Status", "code": 429, "reason": "TooManyRequests",
            "message": "Cannot evict pod as it would violate the pod's disruption budget.",
            "details": {"causes": [{"reason": "DisruptionBudget", "message": "needs 3"}]},
        });
        let (sender_, count) = sender(LONG, move |_| (429, budget.clone()));
        assert!(matches!(sender_.send(&write()).await, Ok(Answer::Refused(_))));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!((errors(&sender_, "budget"), errors(&sender_, "throttled")), (1, 0));

        let (sender, count) = sender(LONG, |number| {
            if number == 0 { (429, json!({"kind": "Status"})) } else { (200, json!({})) }
        });
        assert!(matches!(sender.send(&write()).await, Ok(Answer::Done(_))));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(errors(&sender, "throttled"), 1);
    }

    #[tokio::test]
    async fn a_webhook_that_cannot_be_called_is_a_refusal() {
        let message = r#"Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: Post "https://kueue-webhook-service.kueue-system.svc:443/mutate-batch-v1-job?timeout=10s": connect: connection refused"#;
        let (sender, count) = sender(LONG, move |_| {
            (500, json!({"kind": "Status", "reason": "InternalError", "message": message}))
        });
        let Ok(Answer::Refused(status)) = sender.send(&write()).await else {
            panic!("not refused");
        };
        assert_eq!(status.message, message);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn nothing_is_sent_when_the_lease_ends_first() {
        let (sender, count) = sender(Duration::from_millis(150), |_| (200, json!({})));
        assert_eq!(sender.send(&write()).await.unwrap_err(), Failure::NotLeading);
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_unanswered_request_ends_as_unknown_with_the_lease() {
        let (sender, _) = sender(Duration::from_millis(500), |_| (0, json!({})));
        let failure = sender.send(&write()).await.unwrap_err();
        assert!(matches!(failure, Failure::Unknown(_)), "{failure:?}");
    }
}
