//! A fresh control plane for one side, and the measurements on it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use daylight_demo::{Error, Process, Result};
use daylight_testbed::{ControlPlane, Nodes, Options};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

use crate::manifests::{AI, FILL, MINING, fill_class};
use crate::measured::{Rates, Row, What};
use crate::usage::Cpu;
use crate::watcher::{Marks, Observer, Span};

/// The setup that all sides of a comparison share.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub nodes: usize,
    pub drain: u64,
    pub rates: Rates,
    /// Pods of the Jobs, the smallest first.
    pub sizes: Vec<usize>,
    /// The number of times that the one plain pod is created.
    pub repeats: usize,
    /// `daylight`, built for release.
    pub daylight: PathBuf,
    /// The directory of `crds/` and `examples/`.
    pub repository: PathBuf,
}

impl Setup {
    pub(crate) fn gpus(&self) -> usize {
        self.nodes * 8
    }

    /// The longest time for a measurement, far more than any should take.
    fn limit(&self) -> Duration {
        Duration::from_secs(240 + 2 * self.drain + self.gpus() as u64 / 10)
    }
}

/// The control plane, and the observer of its pods.
pub(crate) struct Site<'a> {
    pub setup: &'a Setup,
    pub control_plane: ControlPlane,
    pub client: Client,
    pub observer: Observer,
    pub nodes: Vec<String>,
    /// The controller, where Daylight runs, and its process.
    pub controller: Option<Process>,
    pub daylight: Option<u32>,
}

impl<'a> Site<'a> {
    pub(crate) async fn start(setup: &'a Setup) -> Result<Self> {
        let options = Options::full().start_timeout(Duration::from_mins(5));
        let options = match setup.rates {
            Rates::Stock => options.stock_client_rates(),
            Rates::High => options,
        };
        let control_plane = ControlPlane::start(options).await?;
        let nodes = Nodes::new(setup.nodes).label("nvidia.com/gpu.present", "true");
        let nodes = control_plane.create_nodes(&nodes).await?;
        let client = control_plane.client();
        let observer = Observer::start(client.clone());
        let site = Self {
            setup,
            control_plane,
            client,
            observer,
            nodes,
            controller: None,
            daylight: None,
        };
        for name in [MINING, AI] {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
            });
            post(&site.client, "/api/v1/namespaces", &namespace).await?;
        }
        post(&site.client, "/apis/scheduling.k8s.io/v1/priorityclasses", &fill_class()).await?;
        // Until its service accounts exist.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(site)
    }

    /// Runs `begin`, and measures the time until `pods` pods of the group run.
    pub(crate) async fn measure(
        &self,
        what: What,
        group: &str,
        pods: usize,
        begin: impl Future<Output = Result<()>>,
    ) -> Result<Row> {
        self.observer.clear_marks();
        let stopped = self.observer.count(FILL).stopped;
        let evicted = self.evicted().await;
        let cpu = Cpu::now(&self.control_plane, self.daylight);
        let start = Instant::now();
        begin.await?;
        let group = group.to_owned();
        let done = |snapshot: &crate::watcher::Snapshot| snapshot.count(&group).running >= pods;
        let in_time = self.observer.until(self.setup.limit(), done).await;
        let took = start.elapsed();
        let marks = self.observer.marks();
        let cpu = Cpu::now(&self.control_plane, self.daylight).since(&cpu);
        if group != FILL {
            // Pods that are displaced too late, and in vain, count as well.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Row {
            what,
            pods,
            times: if in_time { vec![took] } else { Vec::new() },
            displaced: self.observer.count(FILL).stopped - stopped,
            evicted: self.evicted().await.zip(evicted).map(|(after, before)| after - before),
            refilled: None,
            timeline: timeline(start, &marks, what == What::Fill),
            cpu: cpu.text(),
        })
    }

    /// The number of miners that Daylight has stopped, by its own count.
    async fn evicted(&self) -> Option<usize> {
        let scrape = self.controller.as_ref()?.scrape().await?;
        Some(scrape.sum("daylight_evictions_total", &[]) as usize)
    }

    /// Removes the AI work at `path`, and waits until all GPUs are filled again.
    pub(crate) async fn restore(&self, path: &str, group: &str) -> Result<Duration> {
        let start = Instant::now();
        delete(&self.client, path).await?;
        let gpus = self.setup.gpus();
        let done = |snapshot: &crate::watcher::Snapshot| {
            snapshot.count(group).alive == 0 && snapshot.count(FILL).running >= gpus
        };
        if !self.observer.until(self.setup.limit(), done).await {
            return Err(Error::new(format!(
                "the fill was not restored after {group}: {:?} of it, and {:?} of the fill of {gpus}",
                self.observer.count(group),
                self.observer.count(FILL),
            )));
        }
        let took = start.elapsed();
        // What comes with it, such as statuses and Events, shall not be in the next measurement.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(took)
    }
}

fn timeline(start: Instant, marks: &Marks, is_fill: bool) -> String {
    let way = if is_fill { &marks.fill } else { &marks.work };
    let span = |name: &str, span: Span| {
        let at = |moment: Instant| moment.saturating_duration_since(start).as_secs_f64();
        let (first, last) = (at(span.first?), at(span.last?));
        Some(format!("{name} {first:.2} to {last:.2}"))
    };
    let all = [
        span("stopping", marks.stopping),
        span("GPUs freed", marks.freed),
        span("pods created", way.created),
        span("bound", way.bound),
        span("running", way.running),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

async fn send(client: &Client, method: Method, path: &str, kind: &str, body: &Value) -> Result<()> {
    let request = Request::builder().method(method).uri(path).header("Content-Type", kind);
    let request = request
        .body(body.to_string().into_bytes())
        .map_err(|error| Error::new(format!("{path} is not a path: {error}")))?;
    client.request_text(request).await?;
    Ok(())
}

/// Creates an object.
pub(crate) async fn post(client: &Client, path: &str, object: &Value) -> Result<()> {
    send(client, Method::POST, path, "application/json", object).await
}

/// Changes an object.
pub(crate) async fn patch(client: &Client, path: &str, change: &Value) -> Result<()> {
    send(client, Method::PATCH, path, "application/merge-patch+json", change).await
}

/// Deletes an object, and in the background what it owns.
pub(crate) async fn delete(client: &Client, path: &str) -> Result<()> {
    let how = json!({ "propagationPolicy": "Background" });
    send(client, Method::DELETE, path, "application/json", &how).await
}
