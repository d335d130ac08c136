//! Scrapes of the exporters.

use std::time::{Duration, Instant};

use daylight_cluster::Change;
use daylight_cluster::slim::ExporterPod;

use super::discovery::{Discovery, ExporterName};
use super::text::{self, DeviceReading};
use crate::auditor::poll::{Answer, PollSettings, Poller};

/// Answer of the exporter of a node, whose name is [`Answer::from`].
pub(in crate::auditor) type Scrape = Answer<Vec<DeviceReading>>;

/// Longest time that a scrape may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Scrapes the exporters of a `DaemonSet`.
pub(in crate::auditor) struct Scraper {
    discovery: Discovery,
    poller: Poller<Vec<DeviceReading>>,
}

impl Scraper {
    /// `every` is the time between two scrapes of one exporter.
    pub(in crate::auditor) fn new(exporter: &ExporterName, every: Duration) -> Self {
        let settings = PollSettings { port: exporter.port, every, timeout: TIMEOUT };
        // A connection outlives two scrapes that fail.
        Self { discovery: Discovery::new(exporter), poller: Poller::new(settings, every * 3, read) }
    }

    /// Takes in a change in the exporters' namespace.
    pub(in crate::auditor) fn apply(&mut self, change: Change<ExporterPod>) {
        self.discovery.apply(change);
    }

    /// Starts the scrapes that are due.
    pub(in crate::auditor) fn start_due(&mut self, now: Instant) {
        self.poller.start_due(self.discovery.nodes(), now);
    }

    /// Waits for the next answer; never returns while no scrape is under way. Cancel-safe.
    pub(in crate::auditor) async fn next(&mut self) -> Scrape {
        self.poller.next().await
    }
}

fn read(text: &str) -> Result<Vec<DeviceReading>, String> {
    let devices = text::read(text);
    if devices.is_empty() {
        return Err("the answer has no metric of a device's energy or power".to_owned());
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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

    async fn scrape(router: Router) -> Result<Vec<DeviceReading>, String> {
        let address = serve(router).await;
        let settings = PollSettings {
            port: address.port(),
            every: Duration::from_mins(1),
            timeout: Duration::from_millis(300),
        };
        let mut poller = Poller::new(settings, Duration::ZERO, read);
        poller.start_due([(&"n1".into(), address.ip())].into_iter(), Instant::now());
        poller.next().await.content
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let text = "DCGM_FI_DEV_POWER_USAGE{gpu=\"0\",UUID=\"GPU-0a\"} 68.4\n";
        let devices =
            scrape(Router::new().route("/metrics", get(move || async move { text }))).await;
        assert_eq!(devices.unwrap()[0].power_mw, Some(68_400));
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_sentence() {
        let refused =
            Router::new().route("/metrics", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
        let error = scrape(refused).await.unwrap_err();
        assert_eq!(error, "the answer is 500 Internal Server Error");
        let hangs = Router::new().route("/metrics", get(std::future::pending::<&str>));
        assert_eq!(scrape(hangs).await.unwrap_err(), "no answer within 300ms");
        let other = Router::new().route("/metrics", get(|| async { "up 1\n" }));
        let error = scrape(other).await.unwrap_err();
        assert_eq!(error, "the answer has no metric of a device's energy or power");
    }
}
