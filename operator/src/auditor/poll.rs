//! HTTP queries of many endpoints, each at its own times: exporters, and miners' agents.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daylight_agent_api::http::{LEASE_HEADER, LEASE_RENEW, METRICS_PATH};
use daylight_base::{Name, Timestamp, duration};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::steady_clock::SteadyClock;
use crate::failure::chain;

/// Port and times of the queries.
#[derive(Clone, Copy, Debug)]
pub struct PollSettings {
    pub port: u16,
    /// Time between two queries of one endpoint.
    pub every: Duration,
    /// Longest time that an answer may take.
    pub timeout: Duration,
    /// `true` if a query renews the lease of an agent, which stops mining without that.
    pub renews: bool,
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
/// Queries at once of the endpoints of one owner, so that those of a tenant that do not answer keep no
/// other tenant waiting.
const OF_ONE_OWNER: usize = 16;

/// Limits on the queries of one owner's endpoints.
#[derive(Debug)]
struct Owner {
    queries: Semaphore,
    /// Answers being read. Reading one takes processor time and a multiple of its length in memory.
    answers: Semaphore,
}

type Http = Client<HttpConnector, Empty<Bytes>>;

/// Queries endpoints and reads their answers.
pub(super) struct Poller<T> {
    settings: PollSettings,
    /// Longest answer, in bytes.
    longest: usize,
    read: fn(&str) -> Result<T, String>,
    clock: SteadyClock,
    http: Http,
    due: FxHashMap<Name, Instant>,
    /// Endpoints whose query is under way: one that is slow must not have more and more of them.
    querying: FxHashSet<Name>,
    owners: FxHashMap<Box<str>, Arc<Owner>>,
    room: Arc<Semaphore>,
    running: JoinSet<Answer<T>>,
}

impl<T: Send + 'static> Poller<T> {
    /// A poller of no endpoint yet. `keep_alive` is the time that an idle connection stays open, and
    /// `longest` the length in bytes of the longest answer that is read.
    pub(super) fn new(
        settings: PollSettings,
        keep_alive: Duration,
        longest: usize,
        read: fn(&str) -> Result<T, String>,
        clock: SteadyClock,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(settings.timeout));
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(keep_alive)
            .build(tcp);
        Self {
            settings,
            longest,
            read,
            clock,
            http,
            due: FxHashMap::default(),
            querying: FxHashSet::default(),
            owners: FxHashMap::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
        }
    }

    /// Starts the queries that are due, of all `endpoints` there are, each with its owner; of a new
    /// one at once.
    pub(super) fn start_due<'a>(
        &mut self,
        endpoints: impl Iterator<Item = (&'a Name, IpAddr, &'a str)>,
        now: Instant,
    ) {
        let mut known = std::mem::take(&mut self.due);
        for (key, ip, owner) in endpoints {
            let mut due = known.remove(key).unwrap_or(now);
            if due <= now && self.querying.insert(key.clone()) {
                let owner = self.owners.entry(owner.into()).or_insert_with(|| {
                    let (queries, answers) = (Semaphore::new(OF_ONE_OWNER), Semaphore::new(1));
                    Arc::new(Owner { queries, answers })
                });
                let owner = owner.clone();
                self.running.spawn(self.query(key.clone(), ip, owner));
                due = now + self.settings.every;
            }
            self.due.insert(key.clone(), due);
        }
        self.owners.retain(|_, owner| Arc::strong_count(owner) > 1);
    }

    /// Waits for the next answer; never returns while no query is under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answer<T> {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => {
                    self.querying.remove(&answer.from);
                    return answer;
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "A query's task failed. This is a bug.");
                    // Which one is not known: some may be queried twice at once.
                    self.querying.clear();
                }
                None => std::future::pending().await,
            }
        }
    }

    fn query(
        &self,
        from: Name,
        ip: IpAddr,
        owner: Arc<Owner>,
    ) -> impl Future<Output = Answer<T>> + Send + 'static {
        let Self { http, room, settings, longest, read, clock, .. } = self;
        let (http, room, settings) = (http.clone(), room.clone(), *settings);
        let (longest, read, clock) = (*longest, *read, clock.clone());
        async move {
            let _of_owner = owner.queries.acquire().await;
            let _room = room.acquire().await;
            let asked = clock.now();
            let address = SocketAddr::new(ip, settings.port);
            let get = get(&http, address, settings.renews, longest);
            let answer = match tokio::time::timeout(settings.timeout, get).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {}", duration::format(settings.timeout))),
            };
            let answered = clock.now();
            let content = match answer {
                Ok(text) => {
                    let _one = owner.answers.acquire().await;
                    // Reading may take long, and the main loop needs these threads.
                    let content = tokio::task::spawn_blocking(move || read(&text)).await;
                    content.unwrap_or_else(|_| Err("reading the answer failed; a bug".to_owned()))
                }
                Err(error) => Err(error),
            };
            Answer { from, asked, answered, content }
        }
    }
}

async fn get(
    http: &Http,
    address: SocketAddr,
    renews: bool,
    longest: usize,
) -> Result<String, String> {
    let mut request = http::Request::get(format!("http://{address}{METRICS_PATH}"));
    if renews {
        request = request.header(LEASE_HEADER, LEASE_RENEW);
    }
    let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
    let answer = http.request(request).await.map_err(|error| chain(&error))?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), longest).collect().await;
    let bytes = body
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!("the answer is longer than {longest} bytes")
            } else {
                format!("the answer broke off ({error})")
            }
        })?
        .to_bytes();
    String::from_utf8(bytes.to_vec()).map_err(|_| "the answer is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::get;

    use super::*;

    const LONGEST: usize = 64 << 10;

    /// Serves an answer of this many bytes, and counts the queries that are under way at once.
    async fn serve(bytes: usize, peak: Arc<AtomicUsize>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let answer = move || async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            "x".repeat(bytes)
        };
        let router = Router::new().route("/metrics", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn poller(port: u16, read: fn(&str) -> Result<usize, String>) -> Poller<usize> {
        let every = Duration::from_mins(1);
        let settings = PollSettings { port, every, timeout: Duration::from_secs(5), renews: true };
        Poller::new(settings, Duration::ZERO, LONGEST, read, SteadyClock::new())
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_read() {
        for (bytes, expected) in
            [(LONGEST, Ok(LONGEST)), (LONGEST + 1, Err("the answer is longer than 65536 bytes"))]
        {
            let address = serve(bytes, Arc::default()).await;
            let mut poller = poller(address.port(), |text| Ok(text.len()));
            poller.start_due([(&"a".into(), address.ip(), "t")].into_iter(), Instant::now());
            let content = poller.next().await.content;
            assert_eq!(content, expected.map_err(str::to_owned));
        }
    }

    /// Answers that are being read at once.
    static READING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    fn slowly(text: &str) -> Result<usize, String> {
        MOST.fetch_max(READING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        READING.fetch_sub(1, Ordering::SeqCst);
        if text.is_empty() { Err("empty".to_owned()) } else { Ok(text.len()) }
    }

    #[tokio::test]
    async fn a_tenant_has_one_answer_read_at_once_and_not_all_queries() {
        let peak = Arc::new(AtomicUsize::new(0));
        let address = serve(8, peak.clone()).await;
        let mut poller = poller(address.port(), slowly);
        let keys: Vec<Name> = (0..40).map(|number| format!("uid-{number}").into()).collect();
        let endpoints = || keys.iter().map(|key| (key, address.ip(), "tenant"));
        let now = Instant::now();
        poller.start_due(endpoints(), now);
        // The next time comes before they have answered: none is queried twice at once.
        poller.start_due(endpoints(), now + Duration::from_mins(2));
        for _ in 0..40 {
            assert_eq!(poller.next().await.content, Ok(8));
        }
        assert!(poller.running.is_empty());
        assert_eq!(MOST.load(Ordering::SeqCst), 1);
        assert!(peak.load(Ordering::SeqCst) <= OF_ONE_OWNER);
        poller.start_due(endpoints(), now + Duration::from_mins(2));
        assert_eq!(poller.running.len(), 40);
    }
}
