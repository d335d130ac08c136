//! The main job with containers on a real node: what `cargo demo -- --real` shows.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

mod ends;
mod pool;
mod site;

pub use pool::MiningPool;

use crate::books::Books;
use crate::report::Report;
use crate::{Cluster, Error, LIMIT, Observer, Process, Result, Step, file_beside};
use ends::{End, Ends};

const NAMESPACE: &str = "tenant-a";
const GPUS: i64 = 8;
/// Of one GPU each.
const MINERS: usize = 8;
/// The agent's exit code for a wallet that is not the registered one.
const WRONG_WALLET: i32 = 16;
/// A slot rests longer than this after its third failure in a row.
const REST: Duration = Duration::from_secs(30);
const REASON: &str = "Demonstration of the emergency stop";

/// Plays the story on a cluster whose one node is real, has eight GPUs, carries the label
/// `nvidia.com/gpu.present=true` and can run [`MINER_IMAGE`](daylight_testbed::MINER_IMAGE), with miners for
/// this mining pool. `repository` has `crds/` and `examples/`. The controller and the auditor, which
/// keep running at the end, write their logs to `log` and to the same directory.
pub async fn play_real(
    cluster: &Cluster,
    pool: &MiningPool,
    repository: &Path,
    log: &Path,
    print: &mut dyn FnMut(&str),
) -> Result<(Vec<Step>, Vec<Process>)> {
    let client = cluster.client();
    let kind = GroupVersionKind::gvk("daylight.dev", "v1alpha1", "Miner");
    let kind = ApiResource::from_gvk_with_plural(&kind, "miners");
    let mut story = Real {
        cluster,
        pool,
        log,
        miners: Api::namespaced_with(client.clone(), NAMESPACE, &kind),
        pods: Api::namespaced(client.clone(), "ai-team"),
        observer: Observer::start(client.clone()),
        ends: Ends::watch(client),
        report: Report::new(print),
    };
    let processes = story.run(repository).await?;
    Ok((story.report.steps, processes))
}

struct Real<'a> {
    cluster: &'a Cluster,
    pool: &'a MiningPool,
    log: &'a Path,
    miners: Api<DynamicObject>,
    pods: Api<Pod>,
    observer: Observer,
    ends: Ends,
    report: Report<'a>,
}

impl Real<'_> {
    async fn run(&mut self, repository: &Path) -> Result<Vec<Process>> {
        self.install(repository).await?;
        let journal = self.log.with_file_name("journal");
        let agents = ["--agent-images", "daylight.dev/miner*", "--agent-every", "1s"];
        let log = self.log.with_file_name("auditor.log");
        let auditor = self.cluster.start_auditor_with(&journal, &log, &agents).await?;
        let controller = self.cluster.start_metered_controller(self.log).await?;
        self.report.line("The controller and the auditor are ready.");
        self.approval().await?;
        self.work().await?;
        self.ai_pod(&auditor).await?;
        self.wrong_wallet().await?;
        self.emergency_stop().await?;
        self.books(&auditor).await?;
        self.totals();
        Ok(vec![controller, auditor])
    }

    async fn install(&mut self, repository: &Path) -> Result<()> {
        for path in ["crds", "examples/00-namespaces.yaml"] {
            let path = repository.join(path);
            self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        }
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        self.cluster.kubectl(&wait).await?;
        self.cluster.kubectl(&["create", "namespace", "daylight-system"]).await?;
        self.apply("site.yaml", &site::manifest(&self.pool.endpoint())).await?;
        self.report.line(&format!(
            "A registration of {GPUS} GPUs commits to a wallet, and {GPUS} miners wait for it."
        ));
        Ok(())
    }

    async fn apply(&self, name: &str, text: &str) -> Result<()> {
        let path = file_beside(self.log, name, text)?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        Ok(())
    }

    /// Waits until a miner's status satisfies `holds`, and returns it.
    async fn status(
        &self,
        miner: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let mut object = self.miners.get(miner).await?;
            let status = object.data["status"].take();
            if holds(&status) {
                return Ok(status);
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::new(format!(
                    "miner {NAMESPACE}/{miner} was not {what} within {} s; its status is {status}",
                    LIMIT.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ready(&self, replicas: i64) -> Result<Value> {
        let what = format!("ready with {replicas} replicas");
        self.status("bitcoin", &what, |status| status["readyReplicas"] == replicas).await
    }

    async fn approval(&mut self) -> Result<()> {
        let status = self.status("bitcoin", "waiting for approval", awaits_approval).await?;
        let none = self.observer.snapshot().held_by_miners() == 0;
        self.report.step("nothing runs before approval", None, message(&status), none);

        let begun = Instant::now();
        self.cluster
            .daylight(&[
                "approve",
                "tenant-a/bitcoin",
                "--generation",
                "1",
                "-m",
                "Filed and checked.",
            ])
            .await?;
        self.ready(GPUS).await?;
        let took = begun.elapsed();
        let wallets = self.pool.wallets();
        let seen = format!("wallets that logged in to the mining pool: {}", wallets.join(", "));
        let what = format!("approved, {GPUS} miners run, hash and are ready");
        self.report.step(&what, Some(took), seen, wallets == [site::WALLET]);
        Ok(())
    }

    /// Checks the work that the agents report.
    async fn work(&mut self) -> Result<()> {
        let begun = Instant::now();
        let at_work = |status: &Value| {
            let work = &status["work"];
            work["replicas"] == GPUS && work["sharesAccepted"].as_i64() > Some(2 * GPUS)
        };
        let work = self.status("bitcoin", "at work", at_work).await?["work"].take();
        let rate = work["hashrate"].as_str().unwrap_or_default();
        let (taken, shown) = (self.pool.accepted(), work["sharesAccepted"].as_u64());
        let seen = format!(
            "{rate} hashes a second, {} shares; the mining pool has accepted {taken}",
            shown.unwrap_or_default()
        );
        // The auditor scrapes once a second, so the pool may be ahead.
        let held = shown <= Some(taken) && !rate.is_empty() && rate != "0";
        self.report.step("their work shows on the Miner", Some(begun.elapsed()), seen, held);
        let table = self.cluster.kubectl(&["get", "miner", "-n", NAMESPACE]).await?;
        self.report.line(table.trim_end());
        Ok(())
    }

    async fn ai_pod(&mut self, auditor: &Process) -> Result<()> {
        let pod = site::ai_pod().map_err(|error| Error::new(error.to_string()))?;
        let name = pod.name_any();
        let begun = Instant::now();
        self.pods.create(&PostParams::default(), &pod).await?;
        let took = self.runs(&name, begun).await?;
        let most = self.observer.snapshot().most_on_a_node;
        let seen = format!("a plain pod; never more than {most} GPUs held at once");
        let what = format!("an AI pod of {GPUS} GPUs runs");
        self.report.step(&what, took, seen, took.is_some() && most <= GPUS);

        let ends = self.ended("bitcoin", MINERS, begun).await;
        let good = ends.iter().filter(|end| end.in_good_order()).count();
        let seen = format!("{good} of {} ended with exit code 0 and `Drained`", ends.len());
        let held = good == ends.len() && ends.len() == MINERS;
        self.report.step("each miner drained before it ended", None, seen, held);
        if let Some(end) = ends.iter().max_by_key(|end| end.accepted()) {
            self.report.line(&format!("One of their termination records: {}", end.record));
        }

        let recorded: u64 = ends.iter().map(End::accepted).sum();
        let (begun, taken) = (Instant::now(), self.pool.accepted());
        let booked = loop {
            let booked = accepted(auditor).await;
            if booked >= taken as f64 || begun.elapsed() > LIMIT {
                break booked;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let seen = format!(
            "accepted by the mining pool {taken}, in the containers' records {recorded}, seen by the \
             auditor {booked:.0}"
        );
        let held = taken > 0 && recorded == taken && (booked - taken as f64).abs() < 0.5;
        self.report.step("no share is lost or invented", None, seen, held);

        self.ready(0).await?;
        let begun = Instant::now();
        self.pods.delete(&name, &DeleteParams::default()).await?;
        self.ready(GPUS).await?;
        let seen = format!("{} GPUs mine again", self.observer.snapshot().mining());
        self.report.step(
            "the AI pod ends, the node fills again",
            Some(begun.elapsed()),
            seen,
            true,
        );
        Ok(())
    }

    /// Waits until a pod of the AI team runs, and returns the time since `begun`; `None` if it does
    /// not.
    async fn runs(&self, name: &str, begun: Instant) -> Result<Option<Duration>> {
        while begun.elapsed() < LIMIT {
            let status = self.pods.get(name).await?.status.unwrap_or_default();
            if status.phase.as_deref() == Some("Running") {
                return Ok(Some(begun.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }

    /// Starts a miner for another wallet, on a GPU that the others leave free.
    async fn wrong_wallet(&mut self) -> Result<()> {
        self.scale(GPUS - 1).await?;
        self.ready(GPUS - 1).await?;
        let begun = Instant::now();
        self.apply("impostor.yaml", &site::impostor(&self.pool.endpoint())).await?;
        let wrong = |status: &Value| status["reason"] == "WrongWallet";
        let status = self.status("impostor", "refused for its wallet", wrong).await?;
        let took = begun.elapsed();
        let table = self.cluster.kubectl(&["get", "miner", "-n", NAMESPACE]).await?;
        let held = self.pool.wallets() == [site::WALLET];
        let seen = format!("WrongWallet: {}", message(&status));
        self.report.step("another wallet is refused", Some(took), seen, held);
        self.report.line(table.trim_end());

        // As many failures as would quarantine the node if they were counted against it.
        let tries = self.ended("impostor", 3, begun).await;
        let refused = tries.iter().filter(|end| end.exit_code == WRONG_WALLET).count();
        self.ready(GPUS - 1).await?;
        self.cluster.kubectl(&["delete", "miner", "impostor", "-n", NAMESPACE]).await?;
        self.scale(GPUS).await?;
        let begun = Instant::now();
        self.ready(GPUS).await?;
        let took = begun.elapsed();
        let seen = format!(
            "{refused} of {} attempts ended with exit code {WRONG_WALLET}; then {GPUS} others are ready",
            tries.len()
        );
        let held = refused == tries.len() && refused >= 3 && took < REST;
        self.report.step("its failures block no slot for others", Some(took), seen, held);
        Ok(())
    }

    /// Waits until `count` of a miner's containers have ended, or `begun` is too long ago, and returns
    /// how they ended.
    async fn ended(&self, miner: &str, count: usize, begun: Instant) -> Vec<End> {
        loop {
            let ends = self.ends.of(miner);
            if ends.len() >= count || begun.elapsed() > LIMIT {
                return ends;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn scale(&self, replicas: i64) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.cluster.kubectl(&["scale", "miner", "bitcoin", "-n", NAMESPACE, &replicas]).await?;
        Ok(())
    }

    async fn emergency_stop(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.cluster.daylight(&["stop", "-m", REASON]).await?;
        let ended = self.observer.until(LIMIT, |snapshot| snapshot.held_by_miners() == 0).await;
        let took = ended.map(|_| begun.elapsed());
        let stopped =
            |status: &Value| status["reason"] == "EmergencyStop" && status["readyReplicas"] == 0;
        let why = message(&self.status("bitcoin", "stopped", stopped).await?);
        let held = took.is_some()
            && why.contains(REASON)
            && self.ends.of("bitcoin").iter().all(End::in_good_order);
        self.report.step("an emergency stop ends all mining", took, why, held);
        let begun = Instant::now();
        self.cluster.daylight(&["resume"]).await?;
        self.ready(GPUS).await?;
        let seen = format!("{} GPUs mine again", self.observer.snapshot().mining());
        self.report.step("mining resumes", Some(begun.elapsed()), seen, true);
        Ok(())
    }

    async fn books(&mut self, auditor: &Process) -> Result<()> {
        let begun = Instant::now();
        let classes = ["ai-training", "pow-mining"];
        let books = loop {
            let books = auditor.scrape().await.map(|scrape| Books::read(&scrape));
            let both = |books: &Books| classes.iter().all(|class| books.hours_of(class) > 0.0);
            if let Some(books) = books.filter(both) {
                break books;
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::new("the books did not show both AI and mining in time"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        self.report.line(&books.table());
        let seen = format!("{:.3} GPU-hours in total, to the millisecond", books.hours());
        self.report.step("the books close", None, seen, books.closed);
        Ok(())
    }

    fn totals(&mut self) {
        let snapshot = self.observer.snapshot();
        let held = snapshot.most_on_a_node <= GPUS && snapshot.most_mining <= GPUS;
        let seen = format!(
            "at most {} GPUs of the node held and {} mining, checked at every change of every pod",
            snapshot.most_on_a_node, snapshot.most_mining
        );
        self.report.step("caps held at every moment", None, seen, held);
    }
}

fn awaits_approval(status: &Value) -> bool {
    status["reason"] == "AwaitingApproval"
}

fn message(status: &Value) -> String {
    status["message"].as_str().unwrap_or_default().to_owned()
}

/// Returns the accepted shares on record that an agent saw itself.
async fn accepted(auditor: &Process) -> f64 {
    let labels = ["result=\"accepted\"", "evidence=\"seen\""];
    let scrape = auditor.scrape().await;
    scrape.map_or(0.0, |scrape| scrape.sum("daylight_miner_shares_total", &labels))
}
