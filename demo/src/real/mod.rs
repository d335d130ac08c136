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
use crate::report::Telling;
use crate::{Cluster, LIMIT, Observer, Operator, Step, Stopped, Told, file_beside};
use ends::{End, Ends};

const NAMESPACE: &str = "tenant-a";
const GPUS: i64 = 8;
/// Of one GPU each.
const MINERS: usize = 8;
/// The agent's exit code for a wallet that is not the registered one.
const WRONG_WALLET: i32 = 16;
/// A slot rests longer than this after its third failure in a row.
const REST: Duration = Duration::from_secs(30);
const REASON: &str = "The demonstration says so";

/// Plays the story on a cluster whose one node is real, has eight GPUs, carries the label
/// `nvidia.com/gpu.present=true` and can run [`MINER_IMAGE`](daylight_testbed::MINER_IMAGE), with miners for
/// this mining pool. `repository` has `crds/` and `examples/`. The controller and the auditor, left
/// running at the end, write their logs to `log` and beside it.
pub async fn play_real(
    cluster: &Cluster,
    pool: &MiningPool,
    repository: &Path,
    log: &Path,
    say: &mut dyn FnMut(&str),
) -> Told<(Vec<Step>, Vec<Operator>)> {
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
        telling: Telling::new(say),
    };
    let operators = story.tell(repository).await?;
    Ok((story.telling.steps, operators))
}

struct Real<'a> {
    cluster: &'a Cluster,
    pool: &'a MiningPool,
    log: &'a Path,
    miners: Api<DynamicObject>,
    pods: Api<Pod>,
    observer: Observer,
    ends: Ends,
    telling: Telling<'a>,
}

impl Real<'_> {
    async fn tell(&mut self, repository: &Path) -> Told<Vec<Operator>> {
        self.install(repository).await?;
        let journal = self.log.with_file_name("journal");
        let agents = ["--agent-images", "daylight.dev/miner*", "--agent-every", "1s"];
        let log = self.log.with_file_name("auditor.log");
        let auditor = self.cluster.start_auditor_with(&journal, &log, &agents).await?;
        let controller = self.cluster.start_metered_operator(self.log).await?;
        self.telling.line("The controller and the auditor are ready.");
        self.approval().await?;
        self.work().await?;
        self.ai_pod(&auditor).await?;
        self.wrong_wallet().await?;
        self.emergency_stop().await?;
        self.books(&auditor).await?;
        self.totals();
        Ok(vec![controller, auditor])
    }

    async fn install(&mut self, repository: &Path) -> Told<()> {
        for path in ["crds", "examples/00-namespaces.yaml"] {
            let path = repository.join(path);
            self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        }
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        self.cluster.kubectl(&wait).await?;
        self.cluster.kubectl(&["create", "namespace", "daylight-system"]).await?;
        self.apply("site.yaml", &site::manifest(&self.pool.endpoint())).await?;
        self.telling.line(&format!(
            "A registration of {GPUS} GPUs commits to a wallet, and {GPUS} miners wait for it."
        ));
        Ok(())
    }

    async fn apply(&self, name: &str, text: &str) -> Told<()> {
        let path = file_beside(self.log, name, text)?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        Ok(())
    }

    /// Waits until a miner's status is as it should be; gives it as it then stood.
    async fn status(&self, miner: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Told<Value> {
        let begun = Instant::now();
        loop {
            let mut object = self.miners.get(miner).await?;
            let status = object.data["status"].take();
            if holds(&status) {
                return Ok(status);
            }
            if begun.elapsed() > LIMIT {
                return Err(Stopped::new(format!(
                    "miner {NAMESPACE}/{miner} was not {what} within {} s; its status is {status}",
                    LIMIT.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ready(&self, replicas: i64) -> Told<Value> {
        let what = format!("ready with {replicas} replicas");
        self.status("bitcoin", &what, |status| status["readyReplicas"] == replicas).await
    }

    async fn approval(&mut self) -> Told<()> {
        let status = self.status("bitcoin", "waiting for approval", awaits_approval).await?;
        let none = self.observer.picture().held_by_miners() == 0;
        self.telling.step("nothing runs before approval", None, message(&status), none);

        let begun = Instant::now();
        self.cluster.daylight(&["approve", "tenant-a/bitcoin", "-m", "Filed and checked."]).await?;
        self.ready(GPUS).await?;
        let took = begun.elapsed();
        let wallets = self.pool.wallets();
        let seen = format!("the mining pool knows {}", wallets.join(", "));
        let what = format!("approved, {GPUS} miners run, hash and are ready");
        self.telling.step(&what, Some(took), seen, wallets == [site::WALLET]);
        Ok(())
    }

    /// What the agents say of their work.
    async fn work(&mut self) -> Told<()> {
        let begun = Instant::now();
        let at_work = |status: &Value| {
            let work = &status["work"];
            work["replicas"] == GPUS && work["sharesAccepted"].as_i64() > Some(2 * GPUS)
        };
        let work = self.status("bitcoin", "at work", at_work).await?["work"].take();
        let rate = work["hashrate"].as_str().unwrap_or_default();
        let (taken, shown) = (self.pool.accepted(), work["sharesAccepted"].as_u64());
        let seen = format!(
            "{rate} hashes a second, {} shares; the mining pool took {taken} by now",
            shown.unwrap_or_default()
        );
        // The auditor asks once a second, so that the pool may be ahead.
        let held = shown <= Some(taken) && !rate.is_empty() && rate != "0";
        self.telling.step("their work shows on the Miner", Some(begun.elapsed()), seen, held);
        let table = self.cluster.kubectl(&["get", "miner", "-n", NAMESPACE]).await?;
        self.telling.line(table.trim_end());
        Ok(())
    }

    async fn ai_pod(&mut self, auditor: &Operator) -> Told<()> {
        let pod = site::ai_pod().map_err(|error| Stopped::new(error.to_string()))?;
        let name = pod.name_any();
        let begun = Instant::now();
        self.pods.create(&PostParams::default(), &pod).await?;
        let took = self.runs(&name, begun).await?;
        let most = self.observer.picture().most_on_a_node;
        let seen = format!("a plain pod; never more than {most} GPUs held at once");
        let what = format!("an AI pod of {GPUS} GPUs runs");
        self.telling.step(&what, took, seen, took.is_some() && most <= GPUS);

        let ends = self.ended("bitcoin", MINERS, begun).await;
        let good = ends.iter().filter(|end| end.in_good_order()).count();
        let seen = format!("{good} of {} ended with exit code 0 and `Drained`", ends.len());
        let held = good == ends.len() && ends.len() == MINERS;
        self.telling.step("each miner ended in good order", None, seen, held);
        if let Some(end) = ends.iter().max_by_key(|end| end.accepted()) {
            self.telling.line(&format!("One of their records: {}", end.record));
        }

        let told: u64 = ends.iter().map(End::accepted).sum();
        let (begun, taken) = (Instant::now(), self.pool.accepted());
        let booked = loop {
            let booked = accepted(auditor).await;
            if booked >= taken as f64 || begun.elapsed() > LIMIT {
                break booked;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let seen = format!(
            "the mining pool took {taken}, the containers' records say {told}, the auditor has \
             {booked:.0} as seen"
        );
        let held = taken > 0 && told == taken && (booked - taken as f64).abs() < 0.5;
        self.telling.step("no share is lost, and none is made up", None, seen, held);

        self.ready(0).await?;
        let begun = Instant::now();
        self.pods.delete(&name, &DeleteParams::default()).await?;
        self.ready(GPUS).await?;
        let seen = format!("{} GPUs mine again", self.observer.picture().mining());
        self.telling.step(
            "the AI pod ends, the node fills again",
            Some(begun.elapsed()),
            seen,
            true,
        );
        Ok(())
    }

    /// How long after `begun` a pod of the AI team runs; `None` if it does not.
    async fn runs(&self, name: &str, begun: Instant) -> Told<Option<Duration>> {
        while begun.elapsed() < LIMIT {
            let status = self.pods.get(name).await?.status.unwrap_or_default();
            if status.phase.as_deref() == Some("Running") {
                return Ok(Some(begun.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }

    /// A miner that would pay somebody else, on a GPU that the others leave to it.
    async fn wrong_wallet(&mut self) -> Told<()> {
        self.scale(GPUS - 1).await?;
        self.ready(GPUS - 1).await?;
        let begun = Instant::now();
        self.apply("impostor.yaml", &site::impostor(&self.pool.endpoint())).await?;
        let wrong = |status: &Value| status["reason"] == "WrongWallet";
        let status = self.status("impostor", "told that its wallet is wrong", wrong).await?;
        let took = begun.elapsed();
        let table = self.cluster.kubectl(&["get", "miner", "-n", NAMESPACE]).await?;
        let held = self.pool.wallets() == [site::WALLET];
        let seen = format!("WrongWallet: {}", message(&status));
        self.telling.step("another wallet is refused", Some(took), seen, held);
        self.telling.line(table.trim_end());

        // As many failures as would close the node, if they were its own.
        let tries = self.ended("impostor", 3, begun).await;
        let refused = tries.iter().filter(|end| end.exit_code == WRONG_WALLET).count();
        self.ready(GPUS - 1).await?;
        self.cluster.kubectl(&["delete", "miner", "impostor", "-n", NAMESPACE]).await?;
        self.scale(GPUS).await?;
        let begun = Instant::now();
        self.ready(GPUS).await?;
        let took = begun.elapsed();
        let seen = format!(
            "{refused} of {} tries ended with exit code {WRONG_WALLET}; then {GPUS} others are ready",
            tries.len()
        );
        let held = refused == tries.len() && refused >= 3 && took < REST;
        self.telling.step("its failures close no slot to others", Some(took), seen, held);
        Ok(())
    }

    /// How a miner's containers ended, once so many have or `begun` is too long ago.
    async fn ended(&self, miner: &str, count: usize, begun: Instant) -> Vec<End> {
        loop {
            let ends = self.ends.of(miner);
            if ends.len() >= count || begun.elapsed() > LIMIT {
                return ends;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn scale(&self, replicas: i64) -> Told<()> {
        let replicas = format!("--replicas={replicas}");
        self.cluster.kubectl(&["scale", "miner", "bitcoin", "-n", NAMESPACE, &replicas]).await?;
        Ok(())
    }

    async fn emergency_stop(&mut self) -> Told<()> {
        let begun = Instant::now();
        self.cluster.daylight(&["stop", "-m", REASON]).await?;
        let ended = self.observer.until(LIMIT, |picture| picture.held_by_miners() == 0).await;
        let took = ended.map(|_| begun.elapsed());
        let stopped =
            |status: &Value| status["reason"] == "EmergencyStop" && status["readyReplicas"] == 0;
        let why = message(&self.status("bitcoin", "stopped", stopped).await?);
        let held = took.is_some()
            && why.contains(REASON)
            && self.ends.of("bitcoin").iter().all(End::in_good_order);
        self.telling.step("emergency stop ends all mining", took, why, held);
        let begun = Instant::now();
        self.cluster.daylight(&["resume"]).await?;
        self.ready(GPUS).await?;
        let seen = format!("{} GPUs mine again", self.observer.picture().mining());
        self.telling.step("mining resumes", Some(begun.elapsed()), seen, true);
        Ok(())
    }

    async fn books(&mut self, auditor: &Operator) -> Told<()> {
        let begun = Instant::now();
        let classes = ["ai-training", "pow-mining"];
        let books = loop {
            let books = auditor.scrape().await.map(|scrape| Books::read(&scrape));
            let both = |books: &Books| classes.iter().all(|class| books.hours_of(class) > 0.0);
            if let Some(books) = books.filter(both) {
                break books;
            }
            if begun.elapsed() > LIMIT {
                return Err(Stopped::new("AI and mining did not come into the books in time"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        self.telling.line(&books.table());
        let seen = format!("{:.3} GPU-hours in all, to the millisecond", books.hours());
        self.telling.step("the books close", None, seen, books.closed);
        Ok(())
    }

    fn totals(&mut self) {
        let picture = self.observer.picture();
        let held = picture.most_on_a_node <= GPUS && picture.most_mining <= GPUS;
        let seen = format!(
            "at most {} GPUs on the node and {} mining, over every change of every pod",
            picture.most_on_a_node, picture.most_mining
        );
        self.telling.step("caps held at every moment", None, seen, held);
    }
}

fn awaits_approval(status: &Value) -> bool {
    status["reason"] == "AwaitingApproval"
}

fn message(status: &Value) -> String {
    status["message"].as_str().unwrap_or_default().to_owned()
}

/// The shares on record that an agent saw a pool take.
async fn accepted(auditor: &Operator) -> f64 {
    let labels = ["result=\"accepted\"", "evidence=\"seen\""];
    let scrape = auditor.scrape().await;
    scrape.map_or(0.0, |scrape| scrape.sum("daylight_miner_shares_total", &labels))
}
