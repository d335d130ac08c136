//! The part of the story that is about energy: a limit that is met in advance, and the books.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::books::Books;
use crate::{LIMIT, MINER, Operator, Picture, Stopped, Story, Told};

/// A tenant that says its GPUs draw 100 watts; they draw 1,400, and would use up its kilowatt-hour
/// within seconds.
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
    /// A limit on energy is met in advance: mining ends before it could be passed, as the devices'
    /// own counters show, and AI goes on.
    pub(super) async fn energy_cap(&mut self) -> Told<()> {
        self.scale(0).await?;
        let gone = self.observer.until(LIMIT, |picture| picture.held_by_miners() == 0).await;
        gone.ok_or_else(|| Stopped::new(format!("{MINER} was scaled to 0 and still mines")))?;
        let path = self.file_of("ergo.yaml", THIRSTY)?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        let before = self.cluster.counters().await?;
        self.cluster.daylight(&["approve", ERGO, "-m", "One kilowatt-hour a year."]).await?;
        let begun = Instant::now();
        let some = self.observer.until(LIMIT, |picture| picture.mining() >= 8).await;
        let mut nodes = BTreeSet::new();
        let none = |picture: &Picture| {
            nodes.extend(picture.nodes_that_mine());
            picture.held_by_miners() == 0
        };
        let ended = self.observer.until(LIMIT, none).await;
        let took = ended.map(|_| begun.elapsed());
        let why = self.reason("miner", ERGO, "EnergyLimit").await?;
        // By then the exporters have the last of it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = self.cluster.counters().await?;
        let used = moved(&before, &after, |node| nodes.contains(node));
        let ai = self.observer.picture().running_of("pretrain") == 8;
        let percent = (used * 100).div_ceil(KILOWATT_HOUR);
        let seen = format!("{why} The devices' own counters say {percent}% of the cap.");
        let held = some.is_some() && took.is_some() && ai && (1..=KILOWATT_HOUR).contains(&used);
        self.step("a kWh cap is met in advance, AI goes on", took, seen, held);
        self.cluster.kubectl(&["delete", "miner,registration", "ergo", "-n", "tenant-a"]).await?;
        self.scale(320).await?;
        self.refill().await;
        Ok(())
    }

    async fn scale(&self, replicas: u32) -> Told<()> {
        let (namespace, name) = MINER.split_once('/').unwrap_or_default();
        let replicas = format!("--replicas={replicas}");
        let scale = ["scale", "miner", name, "-n", namespace, &replicas];
        self.cluster.kubectl(&scale).await.map(drop)
    }

    /// The books: what is in them adds up, and is what the devices' own counters say. `before` is
    /// where those stood before anything was booked.
    pub(super) async fn books(
        &mut self,
        auditor: &Operator,
        before: &BTreeMap<String, u64>,
    ) -> Told<()> {
        let all = |_: &str| true;
        let at_least = kwh_of(moved(before, &self.cluster.counters().await?, all));
        let begun = Instant::now();
        let books = loop {
            let scrape = auditor.scrape().await.map(|scrape| Books::read(&scrape));
            if let Some(books) = scrape.filter(|books| books.kwh() >= at_least) {
                break books;
            }
            if begun.elapsed() > LIMIT {
                let sentence = format!("the books did not come to {at_least:.3} kWh in time");
                return Err(Stopped::new(sentence));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let at_most = kwh_of(moved(before, &self.cluster.counters().await?, all));
        self.line(&books.table());
        let seen = format!(
            "{:.3} GPU-hours and {:.3} kWh of the {at_most:.3} kWh that the devices' own counters \
             have moved a moment later",
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

/// By how much the counters of these nodes' devices moved, in millijoules.
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
