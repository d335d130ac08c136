//! Tests of the watch of one kind against a server that follows a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::slim::Pod;
use crate::watch::Settings;
use crate::watch::task::{Selectors, Source, Task};
use crate::{Change, Event, Round, WatchFailure};

/// Answer of the server to one request.
enum Reply {
    /// A page of a list.
    Page(Value),
    /// The events of a watch, and its end.
    Stream(Vec<Value>, Then),
    Status(u16, &'static str),
}

/// End of a stream after its events.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Break,
    Hang,
}

/// A server that answers by its script, and a watch of it.
struct Stage {
    script: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
    events: mpsc::Receiver<Event>,
    rounds: watch::Sender<u64>,
    /// The last moment until which the picture was complete.
    current_as_of: Option<Instant>,
}

impl Stage {
    fn new(script: Vec<Reply>) -> Self {
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (replies, received) = (script.clone(), requests.clone());
        let server = Router::new().fallback(move |request: Request| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            received.lock().unwrap().push(query);
            let reply = replies.lock().unwrap().pop_front();
            async move { answer(reply.unwrap_or(Reply::Stream(Vec::new(), Then::Hang))) }
        });
        let (to, events) = mpsc::channel(16);
        let (rounds, round) = watch::channel(0);
        let settings = Settings {
            page: 2,
            lasts: Duration::from_millis(100),
            overdue: Duration::from_millis(100),
            silence: Duration::from_millis(100),
            answer: Duration::from_millis(500),
            pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(5),
            ..Settings::default()
        };
        let source = Source::new("/api/v1/pods".to_owned(), Selectors::default(), Event::Pod);
        let client = kube::Client::new(server, "default");
        let task: Task<Pod, Event> = Task::new(client, source, settings);
        tokio::spawn(task.run(to, round));
        Self { script, requests, events, rounds, current_as_of: None }
    }

    /// Receives the next `count` events, in short form. Those that report until when the picture is
    /// complete are left out.
    async fn next(&mut self, count: usize) -> Vec<String> {
        let mut received = Vec::new();
        while received.len() < count {
            let event = self.receive().await;
            let event = event.unwrap_or_else(|| panic!("no event after {received:?}"));
            if let Event::Pod(Change::Current(as_of)) = event {
                self.current_as_of = Some(as_of);
            } else {
                received.push(brief(&event));
            }
        }
        received
    }

    async fn receive(&mut self) -> Option<Event> {
        timeout(Duration::from_secs(10), self.events.recv()).await.ok()?
    }

    /// The parameters of the requests so far, without those that every request has.
    fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|query| {
                query
                    .split('&')
                    .filter(|one| {
                        !one.is_empty()
                            && !one.starts_with("timeoutSeconds=")
                            && *one != "allowWatchBookmarks=true"
                            && *one != "resourceVersionMatch=NotOlderThan"
                    })
                    .collect::<Vec<_>>()
                    .join("&")
            })
            .collect()
    }
}

fn answer(reply: Reply) -> Response {
    let (status, body) = match reply {
        Reply::Page(page) => (200, Body::from(page.to_string())),
        Reply::Status(code, message) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": code, "message": message, "reason": message,
            });
            (code, Body::from(status.to_string()))
        }
        Reply::Stream(events, then) => {
            let lines: Vec<std::io::Result<String>> =
                events.iter().map(|event| Ok(format!("{event}\n"))).collect();
            let lines = stream::iter(lines);
            let body = match then {
                Then::Close => Body::from_stream(lines),
                Then::Break => Body::from_stream(lines.chain(stream::once(async {
                    Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
                }))),
                Then::Hang => Body::from_stream(lines.chain(stream::pending())),
            };
            (200, body)
        }
    };
    Response::builder().status(status).body(body).unwrap()
}

fn brief(event: &Event) -> String {
    let Event::Pod(change) = event else {
        panic!("{event:?}");
    };
    match change {
        Change::Listing => "listing".to_owned(),
        Change::Item(pod) => format!("item {}", pod.key),
        Change::Listed { version, round } => format!("listed {version} {}", round.0),
        Change::Applied(pod) => format!("applied {} {}", pod.key, pod.version),
        Change::Deleted(pod) => format!("deleted {} {}", pod.key, pod.version),
        Change::Progress(version) => format!("progress {version}"),
        Change::Failed(WatchFailure::Missing) => "missing".to_owned(),
        Change::Failed(WatchFailure::Forbidden) => "forbidden".to_owned(),
        Change::Failed(WatchFailure::Silent) => "silent".to_owned(),
        Change::Failed(WatchFailure::Other(_)) => "failed".to_owned(),
        Change::Current(_) => "current".to_owned(),
    }
}

fn pod(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": version.to_string()}})
}

fn added(name: &str, version: u64) -> Value {
    json!({"type": "ADDED", "object": pod(name, version)})
}

fn deleted(name: &str, version: u64) -> Value {
    json!({"type": "DELETED", "object": pod(name, version)})
}

fn bookmark(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string()},
    }})
}

fn listed(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "resourceVersion": version.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"},
        },
    }})
}

fn expired() -> Value {
    json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": 410, "reason": "Expired", "message": "too old resource version: 5 (9)",
    }})
}

fn page(names: &[&str], version: u64, next: &str) -> Reply {
    let items: Vec<_> = names.iter().map(|name| pod(name, version)).collect();
    Reply::Page(json!({
        "kind": "PodList",
        "metadata": {"resourceVersion": version.to_string(), "continue": next},
        "items": items,
    }))
}

const STREAM: &str = "watch=true&sendInitialEvents=true&resourceVersion=";

#[tokio::test]
async fn a_streamed_list_continues_as_a_watch() {
    let mut stage = Stage::new(vec![
        Reply::Stream(
            vec![added("a", 3), bookmark(4), added("b", 2), listed(5), added("x", 6)],
            Then::Hang,
        ),
        Reply::Stream(vec![added("c", 6), bookmark(7), deleted("a", 8)], Then::Hang),
    ]);
    assert_eq!(
        stage.next(7).await,
        [
            "listing",
            "item n/a",
            "item n/b",
            "listed 5 0",
            "applied n/c 6",
            "progress 7",
            "deleted n/a 8"
        ]
    );
    // A list takes as long as it takes. A watch is ended by the server, so it is a request of its own.
    assert_eq!(stage.requests(), [STREAM, "watch=true&resourceVersion=5"]);
}

#[tokio::test]
async fn without_streaming_lists_pages_are_read() {
    for code in [400, 422] {
        let mut stage = Stage::new(vec![
            Reply::Status(code, "Invalid"),
            page(&["a", "b"], 5, "more"),
            page(&["c"], 5, ""),
            Reply::Stream(vec![added("d", 6)], Then::Hang),
        ]);
        assert_eq!(
            stage.next(6).await,
            ["listing", "item n/a", "item n/b", "item n/c", "listed 5 0", "applied n/d 6"]
        );
        assert_eq!(
            stage.requests(),
            [STREAM, "limit=2", "limit=2&continue=more", "watch=true&resourceVersion=5"]
        );
    }
}

#[tokio::test]
async fn a_server_that_ignores_the_request_for_a_list_is_read_in_pages() {
    let mut stage =
        Stage::new(vec![Reply::Stream(vec![added("a", 3)], Then::Hang), page(&["a"], 5, "")]);
    assert_eq!(stage.next(5).await, ["listing", "item n/a", "listing", "item n/a", "listed 5 0"]);
}

#[tokio::test]
async fn a_lost_connection_resumes_where_it_was_interrupted() {
    for then in [Then::Break, Then::Hang, Then::Close] {
        let mut stage = Stage::new(vec![
            Reply::Stream(vec![listed(5)], Then::Hang),
            Reply::Stream(vec![added("a", 6)], then),
            Reply::Stream(vec![added("b", 9), bookmark(11)], then),
            Reply::Stream(vec![deleted("a", 12)], Then::Hang),
        ]);
        let mut received = Vec::new();
        while received.last().is_none_or(|last| last != "deleted n/a 12") {
            received.extend(stage.next(1).await);
            assert!(received.len() < 20, "{received:?}");
        }
        // The end of the stream decides whether a loss is reported. Nothing is listed again.
        received.retain(|one| one != "failed" && one != "silent");
        assert_eq!(
            received,
            [
                "listing",
                "listed 5 0",
                "applied n/a 6",
                "applied n/b 9",
                "progress 11",
                "deleted n/a 12"
            ]
        );
        let requests = stage.requests();
        assert_eq!(
            requests[2..4],
            ["watch=true&resourceVersion=6", "watch=true&resourceVersion=11"]
        );
    }
}

#[tokio::test]
async fn an_expired_version_is_listed_again() {
    for reply in [Reply::Stream(vec![expired()], Then::Close), Reply::Status(410, "Expired")] {
        let mut stage = Stage::new(vec![
            Reply::Stream(vec![added("a", 3), listed(5)], Then::Close),
            reply,
            Reply::Stream(vec![added("b", 8), listed(9)], Then::Hang),
        ]);
        assert_eq!(
            stage.next(6).await,
            ["listing", "item n/a", "listed 5 0", "listing", "item n/b", "listed 9 0"]
        );
        assert_eq!(stage.requests()[..3], [STREAM, "watch=true&resourceVersion=5", STREAM]);
    }
}

#[tokio::test]
async fn an_interrupted_list_begins_again() {
    let mut stage = Stage::new(vec![
        Reply::Stream(vec![added("a", 3)], Then::Break),
        Reply::Stream(vec![added("a", 3)], Then::Close),
        Reply::Status(422, "Invalid"),
        page(&["a", "b"], 5, "more"),
        Reply::Status(410, "Expired"),
        Reply::Stream(vec![added("a", 3), listed(6)], Then::Hang),
    ]);
    assert_eq!(
        stage.next(12).await,
        [
            "listing",
            "item n/a",
            "failed",
            "listing",
            "item n/a",
            "failed",
            "listing",
            "item n/a",
            "item n/b",
            "listing",
            "item n/a",
            "listed 6 0",
        ]
    );
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_requested_until_it_is() {
    let mut stage = Stage::new(vec![
        Reply::Status(404, "NotFound"),
        Reply::Status(404, "NotFound"),
        Reply::Status(403, "Forbidden"),
        Reply::Status(503, "ServiceUnavailable"),
        Reply::Status(500, "InternalError"),
        Reply::Stream(vec![listed(6)], Then::Hang),
    ]);
    // The same failure is reported once.
    assert_eq!(
        stage.next(6).await,
        ["missing", "forbidden", "failed", "failed", "listing", "listed 6 0"]
    );
}

#[tokio::test]
async fn a_watch_works_again_once_its_picture_is_complete() {
    let mut stage = Stage::new(vec![
        Reply::Stream(vec![listed(5)], Then::Close),
        Reply::Status(503, "ServiceUnavailable"),
        Reply::Stream(vec![added("a", 6), bookmark(8), added("b", 9)], Then::Hang),
    ]);
    let mut received = Vec::new();
    while received.last().is_none_or(|last| last != "applied n/b 9") {
        received.push(brief(&stage.receive().await.unwrap()));
    }
    assert_eq!(
        received,
        [
            "listing",
            "listed 5 0",
            "current",
            "failed",
            "applied n/a 6",
            "progress 8",
            "current",
            "applied n/b 9"
        ]
    );
}

#[tokio::test]
async fn a_watch_that_the_server_does_not_end_in_time_is_silent() {
    let began = Instant::now();
    let mut stage = Stage::new(vec![
        Reply::Stream(vec![listed(5)], Then::Hang),
        Reply::Stream(vec![added("a", 6)], Then::Hang),
        Reply::Stream(vec![bookmark(6)], Then::Hang),
    ]);
    assert_eq!(
        stage.next(5).await,
        ["listing", "listed 5 0", "applied n/a 6", "silent", "progress 6"]
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_that_is_not_answered_is_silent() {
    let server = Router::new().fallback(|_: Request| std::future::pending::<Response>());
    let settings = Settings { answer: Duration::from_millis(50), ..Settings::default() };
    let mut watches = crate::watch::start(&kube::Client::new(server, "default"), &settings);
    let mut cluster = crate::Cluster::default();
    while cluster.pending().iter().any(|(_, why)| *why == crate::Pending::Listing) {
        cluster.apply(timeout(Duration::from_secs(10), watches.recv()).await.unwrap().unwrap());
    }
    let required = crate::Kind::ALL.iter().filter(|kind| !kind.is_optional());
    assert_eq!(cluster.stale().count(), required.count());
}

#[tokio::test]
async fn a_picture_is_complete_as_of_the_request_for_it() {
    let mut stage = Stage::new(vec![
        Reply::Stream(vec![listed(5)], Then::Hang),
        Reply::Stream(vec![bookmark(6), added("a", 7)], Then::Close),
        Reply::Stream(vec![bookmark(8), added("b", 9)], Then::Hang),
    ]);
    let began = Instant::now();
    stage.next(3).await;
    let listed = stage.current_as_of.unwrap();
    assert!(listed > began);
    stage.next(2).await;
    let first = stage.current_as_of.unwrap();
    stage.next(2).await;
    let second = stage.current_as_of.unwrap();
    assert!(listed < first && first < second && second < Instant::now());
}

#[tokio::test]
async fn a_fresh_list_can_be_requested_at_any_time() {
    let mut stage = Stage::new(vec![
        Reply::Stream(vec![added("a", 3), listed(5)], Then::Hang),
        Reply::Stream(vec![added("c", 6)], Then::Hang),
        Reply::Stream(vec![added("b", 8), listed(9)], Then::Hang),
    ]);
    assert_eq!(stage.next(4).await, ["listing", "item n/a", "listed 5 0", "applied n/c 6"]);
    stage.rounds.send_modify(|round| *round += 1);
    assert_eq!(stage.next(3).await, ["listing", "item n/b", "listed 9 1"]);
    assert_eq!(stage.requests().iter().filter(|request| *request == STREAM).count(), 2);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_does_not_stop_the_watch() {
    let broken = json!({"type": "ADDED", "object": {"metadata": {"name": "x", "creationTimestamp": "never"}}});
    let mut stage = Stage::new(vec![
        Reply::Stream(vec![added("a", 3), broken.clone(), listed(5)], Then::Hang),
        Reply::Stream(vec![broken, added("b", 6)], Then::Hang),
    ]);
    assert_eq!(stage.next(4).await, ["listing", "item n/a", "listed 5 0", "applied n/b 6"]);
}

#[tokio::test]
async fn the_task_ends_when_the_receiver_is_dropped() {
    let Stage { script, requests, events, rounds, .. } =
        Stage::new(vec![Reply::Stream(vec![listed(5)], Then::Hang)]);
    drop(events);
    drop(rounds);
    // The task holds the client, which holds the server, which holds these.
    timeout(Duration::from_secs(10), async {
        while Arc::strong_count(&script) > 1 || Arc::strong_count(&requests) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn all_kinds_are_watched_and_a_relist_reaches_all() {
    let server = Router::new().fallback(|request: Request| async move {
        let namespaced = request.uri().path().contains("/namespaces/");
        let selected =
            request.uri().query().unwrap_or_default().contains("fieldSelector=metadata.name");
        assert_eq!(namespaced, selected, "only ConfigMaps are watched by name");
        answer(Reply::Stream(vec![listed(5)], Then::Hang))
    });
    let client = kube::Client::new(server, "default");
    let mut watches = crate::watch::start(&client, &Settings::default());
    let mut cluster = crate::Cluster::default();
    let mut round = Round(0);
    for _ in 0..2 {
        timeout(Duration::from_secs(10), async {
            let mut events = Vec::new();
            while !cluster.is_fresh(round) {
                watches.recv_many(&mut events, 64).await;
                for event in events.drain(..) {
                    cluster.apply(event);
                }
            }
        })
        .await
        .unwrap();
        assert!(cluster.is_complete());
        assert_eq!(cluster.pending(), []);
        round = watches.relist();
        assert!(!cluster.is_fresh(round));
    }
}
