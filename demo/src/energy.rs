//! The part of the story that is about energy: a limit that is met in advance, and the books.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::books::Books;
use crate::{Error, LIMIT, MINER, Process, Result, Snapshot, Story};

/// A tenant whose miners declare 100 watts for each GPU and draw 1,400: they would use up their
/// kilowatt-hour within seconds.
const THIRSTY: &str = "
apiVersion: daylight.dev/v1alpha1
kind: Registration
metadata: {name: ergo, namespace: tenant-a}
spec:
  operator: {name: Tenant A GmbH}
  submittedBy: alice@tenant-a.example
  activityClass: pow-mining
  site: frankfurt-1
  pools: [frankfurt]
  validFrom: 2026-01-01T00:00:00Z
  validUntil: 2031-01-01T00:00:00Z
  limits: {gpus: 160, energy: {kwh: 1, period: Year}}
---
apiVersion: daylight.dev/v1alpha1
kind: Miner
metadata:
  name: ergo
  namespace: tenant-a
  annotations: {daylight.dev/simulated-watts: '1400', daylight.dev/simulated-drain-time: 1s}
spec:
  registration: ergo
  replicas: 20
  gpusPerReplica: 8
  image: registry.example.com/miners/ergo:1.0
  drainTimeout: 2s
  wattsPerReplica: 800
";

const ERGO: &str = "tenant-a/ergo";
/// In millijoules: the limit of [`THIRSTY`].
const KILOWATT_HOUR: u64 = 3_600_000_000;

impl Story<'_> {
    /// Shows that mining ends before a limit on energy is exceeded, as the devices' own counters
    /// confirm, and that AI continues.
    pub(super) async fn energy_cap(&mut self) -> Result<()> {
        self.scale(0).await?;
        let gone = self.observer.until(LIMIT, |snapshot| snapshot.held_by_miners() == 0).await;
        gone.ok_or_else(|| Error::new(format!("{MINER} was scaled to 0 and still mines")))?;
        let path = self.file_of("ergo.yaml", THIRSTY)?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        let before = self.cluster.counters().await?;
        self.cluster
            .daylight(&["approve", ERGO, "--generation", "1", "-m", "One kilowatt-hour a year."])
            .await?;
        let begun = Instant::now();
        let some = self.observer.until(LIMIT, |snapshot| snapshot.mining() >= 8).await;
        let mut nodes = BTreeSet::new();
        let none = |snapshot: &Snapshot| {
            nodes.extend(snapshot.nodes_that_mine());
            snapshot.held_by_miners() == 0
        };
        let ended = self.observer.until(LIMIT, none).await;
        let took = ended.map(|_| begun.elapsed());
        let why = self.reason("miner", ERGO, "EnergyLimit").await?;
        // By then the exporters have counted the last of it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = self.cluster.counters().await?;
        let used = moved(&before, &after, |node| nodes.contains(node));
        let ai = self.observer.snapshot().running_of("pretrain") == 8;
        let percent = (used * 100).div_ceil(KILOWATT_HOUR);
        let seen = format!("{why} The devices' counters show {percent}% of the limit.");
        let held = some.is_some() && took.is_some() && ai && (1..=KILOWATT_HOUR).contains(&used);
        self.step("mining stops before a kWh limit is exceeded, AI continues", took, seen, held);
        self.cluster.kubectl(&["delete", "miner,registration", "ergo", "-n", "tenant-a"]).await?;
        self.scale(320).await?;
        self.refill().await;
        Ok(())
    }

    async fn scale(&self, replicas: u32) -> Result<()> {
        let (namespace, name) = MINER.split_once('/').unwrap_or_default();
        let replicas = format!("--replicas={replicas}");
        let scale = ["scale", "miner", name, "-n", namespace, &replicas];
        self.cluster.kubectl(&scale).await.map(drop)
    }

    /// Shows that the books add up and agree with the devices' own counters. `before` holds the
    /// counters' values before anything was booked.
    pub(super) async fn books(
        &mut self,
        auditor: &Process,
        before: &BTreeMap<String, u64>,
    ) -> Result<()> {
        let all = |_: &str| true;
        let at_least = kwh_of(moved(before, &self.cluster.counters().await?, all));
        let begun = Instant::now();
        let books = loop {
            let scrape = auditor.scrape().await.map(|scrape| Books::read(&scrape));
            if let Some(books) = scrape.filter(|books| books.kwh() >= at_least) {
                break books;
            }
            if begun.elapsed() > LIMIT {
                let sentence = format!("the books did not reach {at_least:.3} kWh in time");
                return Err(Error::new(sentence));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let at_most = kwh_of(moved(before, &self.cluster.counters().await?, all));
        self.line(&books.table());
        let seen = format!(
            "recorded {:.3} GPU-hours and {:.3} kWh; the devices' counters, read a moment later, \
             advanced by {at_most:.3} kWh",
            books.hours(),
            books.kwh(),
        );
        let held = books.closed
            && books.have_energy_of(&["ai-training", "pow-mining"])
            && books.kwh() <= at_most;
        self.step("the books close, in time and in energy", None, seen, held);
        Ok(())
    }
}

/// Returns by how much the counters of these nodes' devices advanced, in millijoules.
fn moved(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    of: impl Fn(&str) -> bool,
) -> u64 {
    let of_nodes = after.iter().filter(|(node, _)| of(node));
    let stood = |node: &String| before.get(node).copied().unwrap_or_default();
    of_nodes.map(|(node, stands)| stands.saturating_sub(stood(node))).sum()
}

fn kwh_of(millijoules: u64) -> f64 {
    millijoules as f64 / KILOWATT_HOUR as f64
}
