//! Scrapes of the exporters.

use std::time::{Duration, Instant};

use daylight_cluster::Change;
use daylight_cluster::slim::ExporterPod;
use daylight_exposition::{DeviceReading, devices};
use futures::FutureExt as _;
use futures::future::select_all;

use super::discovery::{Discovery, ExporterName};
use crate::auditor::poll::{Answer, PollSettings, Poller};
use crate::auditor::steady_clock::SteadyClock;

/// Answer of an exporter on a node.
#[derive(Debug)]
pub(in crate::auditor) struct Scrape {
    /// Number of the exporter, in the order in which the installation names them.
    pub(in crate::auditor) exporter: usize,
    /// Its key is the name of the node.
    pub(in crate::auditor) answer: Answer<Vec<DeviceReading>>,
}

/// Longest time that a scrape may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes. A few hundred metrics for each of 16 devices are a fiftieth of it.
const LONGEST: usize = 16 << 20;

/// Scrapes the pods of the exporters that the installation names, each for its own node.
pub(in crate::auditor) struct Scraper {
    exporters: Vec<(Discovery, Poller<Vec<DeviceReading>>)>,
}

impl Scraper {
    /// `every` is the time between two scrapes of one pod.
    pub(in crate::auditor) fn new(
        exporters: &[ExporterName],
        every: Duration,
        clock: &SteadyClock,
    ) -> Self {
        let exporter = |name: &ExporterName| {
            let settings = PollSettings { port: name.port, every, timeout: TIMEOUT, renews: false };
            // A connection outlives two scrapes that fail.
            let poller = Poller::new(settings, every * 3, LONGEST, read, clock.clone());
            (Discovery::new(name), poller)
        };
        Self { exporters: exporters.iter().map(exporter).collect() }
    }

    /// Takes in a change in the namespace of an exporter.
    pub(in crate::auditor) fn apply(&mut self, exporter: usize, change: Change<ExporterPod>) {
        if let Some((discovery, _)) = self.exporters.get_mut(exporter) {
            discovery.apply(change);
        }
    }

    /// Starts the scrapes that are due.
    pub(in crate::auditor) fn start_due(&mut self, now: Instant) {
        for (discovery, poller) in &mut self.exporters {
            let nodes = discovery.nodes();
            poller.start_due(nodes.map(|(node, ip)| (node, ip, &**node)), now);
        }
    }

    /// Waits for the next answer; never returns while no scrape is under way. Cancel-safe.
    pub(in crate::auditor) async fn next(&mut self) -> Scrape {
        let next = self.exporters.iter_mut().enumerate().map(|(exporter, (_, poller))| {
            poller.next().map(move |answer| Scrape { exporter, answer }).boxed()
        });
        let next: Vec<_> = next.collect();
        if next.is_empty() {
            return std::future::pending().await;
        }
        select_all(next).await.0
    }
}

fn read(text: &str) -> Result<Vec<DeviceReading>, String> {
    devices(text).map_err(|error| error.to_string())
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

    fn settings(address: SocketAddr) -> PollSettings {
        let every = Duration::from_mins(1);
        let timeout = Duration::from_millis(300);
        PollSettings { port: address.port(), every, timeout, renews: false }
    }

    async fn scrape(router: Router) -> Result<Vec<DeviceReading>, String> {
        let address = serve(router).await;
        let settings = settings(address);
        let mut poller = Poller::new(settings, Duration::ZERO, LONGEST, read, SteadyClock::new());
        poller.start_due([(&"n1".into(), address.ip(), "n1")].into_iter(), Instant::now());
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
