//! HTTP queries of many endpoints, each at its own times: exporters, and miners' agents.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daylight_agent_api::http::{LEASE_HEADER, LEASE_RENEW, METRICS_PATH};
use daylight_base::{Name, Timestamp, duration};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::wall_clock;
use crate::failure::chain;

/// Port and times of the queries.
#[derive(Clone, Copy, Debug)]
pub struct PollSettings {
    pub port: u16,
    /// Time between two queries of one endpoint.
    pub every: Duration,
    /// Longest time that an answer may take.
    pub timeout: Duration,
}

/// Answer of one endpoint, or the reason that there is none.
#[derive(Debug)]
pub(super) struct Answer<T> {
    /// Key of the endpoint.
    pub(super) from: Name,
    pub(super) asked: Timestamp,
    pub(super) answered: Timestamp,
    pub(super) content: Result<T, String>,
}

/// Queries at once. It bounds sockets and memory while many endpoints do not answer.
const AT_ONCE: usize = 64;
/// Longest answer, in bytes. A few hundred metrics for each of 16 devices are a fiftieth of it.
const LONGEST: usize = 16 << 20;

type Http = Client<HttpConnector, Empty<Bytes>>;

/// Queries endpoints and reads their answers.
pub(super) struct Poller<T> {
    settings: PollSettings,
    read: fn(&str) -> Result<T, String>,
    http: Http,
    due: FxHashMap<Name, Instant>,
    room: Arc<Semaphore>,
    running: JoinSet<Answer<T>>,
}

impl<T: Send + 'static> Poller<T> {
    /// A poller of no endpoint yet. `keep_alive` is the time that an idle connection stays open.
    pub(super) fn new(
        settings: PollSettings,
        keep_alive: Duration,
        read: fn(&str) -> Result<T, String>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(settings.timeout));
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(keep_alive)
            .build(tcp);
        Self {
            settings,
            read,
            http,
            due: FxHashMap::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
        }
    }

    /// Starts the queries that are due, of all `endpoints` there are; of a new one at once.
    pub(super) fn start_due<'a>(
        &mut self,
        endpoints: impl Iterator<Item = (&'a Name, IpAddr)>,
        now: Instant,
    ) {
        let mut known = std::mem::take(&mut self.due);
        for (key, ip) in endpoints {
            let later = known.remove(key).filter(|due| *due > now);
            let due = later.unwrap_or_else(|| {
                self.running.spawn(self.query(key.clone(), ip));
                now + self.settings.every
            });
            self.due.insert(key.clone(), due);
        }
    }

    /// Waits for the next answer; never returns while no query is under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answer<T> {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                Some(Err(error)) => {
                    tracing::error!(%error, "A query's task failed. This is a bug.");
                }
                None => std::future::pending().await,
            }
        }
    }

    fn query(&self, from: Name, ip: IpAddr) -> impl Future<Output = Answer<T>> + Send + 'static {
        let Self { http, room, settings, read, .. } = self;
        let (http, room, settings, read) = (http.clone(), room.clone(), *settings, *read);
        async move {
            let _room = room.acquire().await;
            let asked = wall_clock();
            let address = SocketAddr::new(ip, settings.port);
            let content = match tokio::time::timeout(settings.timeout, get(&http, address)).await {
                Ok(answer) => answer.and_then(|text| read(&text)),
                Err(_) => Err(format!("no answer within {}", duration::format(settings.timeout))),
            };
            Answer { from, asked, answered: wall_clock(), content }
        }
    }
}

async fn get(http: &Http, address: SocketAddr) -> Result<String, String> {
    // An agent stops mining if its lease is not renewed in time; this query renews it.
    // An exporter ignores the header.
    let request = http::Request::get(format!("http://{address}{METRICS_PATH}"))
        .header(LEASE_HEADER, LEASE_RENEW)
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let answer = http.request(request).await.map_err(|error| chain(&error))?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let bytes = body.map_err(|error| format!("the answer broke off ({error})"))?.to_bytes();
    String::from_utf8(bytes.to_vec()).map_err(|_| "the answer is not UTF-8".to_owned())
}
