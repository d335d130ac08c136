//! Asking the agents of miners what they have done so far, so that a node that is lost takes little
//! of it along.
//!
//! Pods of Daylight's are asked whose image the installation trusts, or whose `Miner` says that they
//! have Daylight's agent, at `/metrics`, in the vocabulary of `daylight-miner`. Only of the former is
//! believed what they have seen.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_meter::Facts;
use prometheus_parse::{Scrape, Value};
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::exporter::scrape::{Http, get, http};
use super::miners::Says;
use daylight_cluster::slim::is_reason;

/// How agents are asked.
#[derive(Clone, Copy, Debug)]
pub struct AgentSettings {
    pub port: u16,
    /// How often each is asked.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Answers that are waited for at once.
const AT_ONCE: usize = 64;

/// An agent that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its miner, `namespace/name`.
    pub miner: Name,
    pub ip: IpAddr,
    /// Whether the installation trusts its image.
    pub trusted: bool,
}

/// What an agent says, by its pod's UID.
type Told = (Name, Result<Says, String>);

/// Asks agents.
pub(super) struct Agents {
    settings: AgentSettings,
    http: Http,
    due: FxHashMap<Name, Instant>,
    room: Arc<Semaphore>,
    running: JoinSet<Told>,
}

impl Agents {
    /// Nobody is asked yet.
    pub(super) fn new(settings: AgentSettings) -> Self {
        Self {
            settings,
            http: http(settings.timeout, Duration::ZERO),
            due: FxHashMap::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
        }
    }

    /// Asks those whose time has come. A new one is asked at once.
    pub(super) fn ask(&mut self, agents: &FxHashMap<Name, Agent>, now: Instant) {
        self.due.retain(|uid, _| agents.contains_key(uid));
        for (uid, agent) in agents {
            if self.due.get(uid).is_none_or(|due| *due <= now) {
                self.due.insert(uid.clone(), now + self.settings.every);
                self.running.spawn(self.one(uid.clone(), agent.ip));
            }
        }
    }

    fn one(&self, uid: Name, ip: IpAddr) -> impl Future<Output = Told> + Send + 'static {
        let (http, room, settings) = (self.http.clone(), self.room.clone(), self.settings);
        async move {
            let _room = room.acquire().await;
            let address = SocketAddr::new(ip, settings.port);
            let told = match tokio::time::timeout(settings.timeout, get(&http, address)).await {
                Ok(Ok(text)) => {
                    says(&text).ok_or_else(|| "the answer says nothing of its work".to_owned())
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(format!("no answer within {:?}", settings.timeout)),
            };
            (uid, told)
        }
    }

    /// Waits for the next answer; never returns while none is waited for. Safe to cancel.
    pub(super) async fn next(&mut self) -> Told {
        loop {
            match self.running.join_next().await {
                Some(Ok(told)) => return told,
                Some(Err(error)) => tracing::error!(%error, "Asking an agent failed."),
                None => std::future::pending().await,
            }
        }
    }
}

/// What an exposition tells of an agent, if it does.
fn says(text: &str) -> Option<Says> {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).ok()?;
    let mut facts = None::<Facts>;
    let mut says = Says::default();
    let mut seen = false;
    for sample in &scrape.samples {
        let (Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number)) = sample.value
        else {
            continue;
        };
        // Whole numbers far below 2^64; what is not such is not told.
        if !(0.0..1e19).contains(&number) {
            continue;
        }
        let count = number as u64;
        match sample.metric.as_str() {
            "daylight_miner_hashes_total" => facts.get_or_insert_default().hashes += count,
            "daylight_miner_shares_total" => match sample.labels.get("result") {
                Some("accepted") => facts.get_or_insert_default().shares_accepted += count,
                _ => facts.get_or_insert_default().shares_rejected += count,
            },
            "daylight_miner_hashrate" => *says.hashrate.get_or_insert_default() += number,
            "daylight_miner_not_ready" => {
                says.not_ready =
                    sample.labels.get("reason").filter(|it| is_reason(it)).map(Name::from);
            }
            "daylight_miner_info" => seen = sample.labels.get("evidence") == Some("seen"),
            _ => {}
        }
    }
    facts.map(|facts| Says { facts: Facts { seen, ..facts }, ..says })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_figures_are_read() {
        let text = "\
            # TYPE daylight_miner_info gauge\n\
            daylight_miner_info{engine=\"xmrig\",evidence=\"seen\",version=\"0.1.0\"} 1\n\
            # TYPE daylight_miner_hashes_total counter\n\
            daylight_miner_hashes_total{algorithm=\"rx/0\"} 9000000000\n\
            # TYPE daylight_miner_shares_total counter\n\
            daylight_miner_shares_total{result=\"accepted\"} 7\n\
            daylight_miner_shares_total{result=\"rejected\"} 1\n\
            daylight_miner_shares_total{result=\"stale\"} 2\n";
        let facts = |text: &str| says(text).map(|says| says.facts);
        let expected =
            Facts { shares_accepted: 7, shares_rejected: 3, hashes: 9_000_000_000, seen: true };
        assert_eq!(facts(text), Some(expected));
        let claimed = text.replace("seen", "claimed");
        assert_eq!(facts(&claimed), Some(Facts { seen: false, ..expected }));
        assert_eq!(facts("up 1\n"), None);
        let lacks = says(&format!(
            "{text}daylight_miner_hashrate{{algorithm=\"rx/0\"}} 18.5\ndaylight_miner_not_ready{{reason=\"NotHashing\"}} 1\n"
        ));
        let lacks = lacks.unwrap();
        assert_eq!((lacks.hashrate, lacks.not_ready.as_deref()), (Some(18.5), Some("NotHashing")));
    }
}
