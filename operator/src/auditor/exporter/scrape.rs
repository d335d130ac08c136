//! Asking exporters, each at its own moments, many at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daylight_base::{Name, Timestamp};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::found::Found;
use super::text::{self, DeviceReading};
use crate::clock::wall_clock;

/// How exporters are asked.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeSettings {
    pub port: u16,
    /// How often each is asked.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What came of asking the exporter of one node.
#[derive(Debug)]
pub struct Scraped {
    pub node: Name,
    /// When it was asked.
    pub asked: Timestamp,
    /// When its answer was there.
    pub answered: Timestamp,
    /// What it says of the node's devices, or why there is no answer.
    pub devices: Result<Vec<DeviceReading>, String>,
}

/// Answers that are waited for at once.
const AT_ONCE: usize = 64;
/// The longest answer: of a few hundred metrics about 16 devices it is a fiftieth of this.
const LONGEST: usize = 16 << 20;

/// Speaks HTTP with those who are asked.
pub(in crate::auditor) type Http = Client<HttpConnector, Empty<Bytes>>;

/// A client that gives up connecting after `timeout`, and keeps a connection for `idle`.
pub(in crate::auditor) fn http(timeout: Duration, idle: Duration) -> Http {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(timeout));
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(idle)
        .build(tcp)
}

/// Asks exporters.
pub struct Scraper {
    settings: ScrapeSettings,
    http: Http,
    due: FxHashMap<Name, Instant>,
    room: Arc<Semaphore>,
    running: JoinSet<Scraped>,
}

impl Scraper {
    /// Nobody is asked yet.
    pub fn new(settings: ScrapeSettings) -> Self {
        Self {
            settings,
            http: http(settings.timeout, settings.every * 3),
            due: FxHashMap::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
        }
    }

    /// Asks those whose time has come. A new one is asked at once.
    pub fn ask(&mut self, found: &Found, now: Instant) {
        self.due.retain(|node, _| found.of(node).is_some());
        for (node, ip) in found.nodes() {
            if self.due.get(node).is_some_and(|due| *due > now) {
                continue;
            }
            self.due.insert(node.clone(), now + self.settings.every);
            self.running.spawn(self.one(node.clone(), ip));
        }
    }

    /// When somebody is to be asked next, of those that [`Scraper::ask`] knew.
    pub fn wake_at(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// Waits for the next answer; never returns while none is waited for. Safe to cancel.
    pub async fn next(&mut self) -> Scraped {
        loop {
            match self.running.join_next().await {
                Some(Ok(scraped)) => return scraped,
                Some(Err(error)) => tracing::error!(%error, "A scrape's task failed."),
                None => std::future::pending().await,
            }
        }
    }

    fn one(&self, node: Name, ip: IpAddr) -> impl Future<Output = Scraped> + Send + 'static {
        let (http, room, settings) = (self.http.clone(), self.room.clone(), self.settings);
        async move {
            let _room = room.acquire().await;
            let asked = wall_clock();
            let address = SocketAddr::new(ip, settings.port);
            let devices = match tokio::time::timeout(settings.timeout, get(&http, address)).await {
                Ok(Ok(text)) => match text::read(&text) {
                    devices if devices.is_empty() => {
                        Err("the answer says nothing of a device's energy or power".to_owned())
                    }
                    devices => Ok(devices),
                },
                Ok(Err(error)) => Err(error),
                Err(_) => Err(format!("no answer within {:?}", settings.timeout)),
            };
            Scraped { node, asked, answered: wall_clock(), devices }
        }
    }
}

/// Asks what is served at `/metrics`.
pub(in crate::auditor) async fn get(http: &Http, address: SocketAddr) -> Result<String, String> {
    let uri = format!("http://{address}/metrics");
    // Agents of miners work only for so long after they were asked like this; to others it says
    // nothing.
    let request = http::Request::get(uri).header("daylight-lease", "renew").body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer =
        http.request(request).await.map_err(|error| format!("it cannot be reached ({error})"))?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    let bytes = body.map_err(|error| format!("the answer breaks off ({error})"))?.to_bytes();
    String::from_utf8(bytes.to_vec()).map_err(|_| "the answer is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    async fn serve(router: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn ask(router: Router) -> Result<Vec<DeviceReading>, String> {
        let address = serve(router).await;
        let settings = ScrapeSettings {
            port: address.port(),
            every: Duration::from_mins(1),
            timeout: Duration::from_millis(300),
        };
        Scraper::new(settings).one("n1".into(), address.ip()).await.devices
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let text = "DCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-0a\"} 68.4\n";
        let devices = ask(Router::new().route("/metrics", get(move || async move { text }))).await;
        assert_eq!(devices.unwrap()[0].power_mw, Some(68_400));
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_sentence() {
        let refused =
            Router::new().route("/metrics", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
        assert_eq!(ask(refused).await.unwrap_err(), "it answers 500 Internal Server Error");
        let hangs = Router::new().route("/metrics", get(std::future::pending::<&str>));
        assert_eq!(ask(hangs).await.unwrap_err(), "no answer within 300ms");
        let other = Router::new().route("/metrics", get(|| async { "up 1\n" }));
        assert!(ask(other).await.unwrap_err().contains("says nothing of a device"));
    }
}
