//! Reports of miners' agents about their work so far, so that little of it is lost with a node.
//!
//! An agent is queried if the installation trusts its image, or if its `Miner` has Daylight's agent.
//! The evidence `seen` counts only from a trusted image.

use std::net::IpAddr;
use std::time::Duration;

use daylight_agent_api::Evidence;
use daylight_agent_api::metrics::{
    ACCEPTED, EVIDENCE, HASHES, HASHRATE, INFO, NOT_READY, REASON, RESULT, SHARES,
};
use daylight_base::Name;
use daylight_cluster::names::parts;
use daylight_cluster::slim::is_reason;
use daylight_exposition::samples;
use daylight_meter::Facts;

use super::poll::{PollSettings, Poller};
use super::steady_clock::SteadyClock;

/// Agent that can be queried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    /// `namespace/name` of its miner.
    pub(super) miner: Name,
    pub(super) ip: IpAddr,
    /// `true` if the installation trusts its image.
    pub(super) trusted: bool,
}

impl Agent {
    /// The namespace of its miner.
    pub(super) fn tenant(&self) -> &str {
        parts(&self.miner).0
    }
}

/// Report of an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AgentReport {
    /// Work so far.
    pub(super) work: Facts,
    /// Hashes per second.
    pub(super) hashrate: Option<f64>,
    /// Reason that it does not work, as one word; `None` while it works.
    pub(super) not_ready: Option<Name>,
}

/// A poller of agents, by their pods' UIDs.
pub(super) fn poller(settings: PollSettings, clock: SteadyClock) -> Poller<AgentReport> {
    // Queries are a minute apart by default, too long to keep a connection open.
    Poller::new(settings, Duration::ZERO, LONGEST, read, clock)
}

/// Longest answer, in bytes. The container decides what it answers, and it is its tenant's; that of
/// Daylight's agent has a few kilobytes.
const LONGEST: usize = 64 << 10;

fn read(text: &str) -> Result<AgentReport, String> {
    parse(text).ok_or_else(|| format!("the answer has neither {HASHES} nor {SHARES}"))
}

/// Beginning of the names of an agent's metrics.
const PREFIX: &str = "daylight_miner_";

fn parse(text: &str) -> Option<AgentReport> {
    let mut work = None::<Facts>;
    let mut report = AgentReport::default();
    let mut seen = false;
    // Only the agent's own lines: its container may serve others.
    for sample in samples(text, |name| name.starts_with(PREFIX)) {
        let number = sample.value;
        // NaN, negative numbers and totals that no device reaches are ignored.
        if !(0.0..1e18).contains(&number) {
            continue;
        }
        let count = number as u64;
        let label = |name| sample.label(name);
        match sample.name {
            HASHES => add(&mut work.get_or_insert_default().hashes, count),
            SHARES if label(RESULT) == Some(ACCEPTED) => {
                add(&mut work.get_or_insert_default().shares_accepted, count);
            }
            SHARES => add(&mut work.get_or_insert_default().shares_rejected, count),
            HASHRATE => *report.hashrate.get_or_insert_default() += number,
            // The word ends up in a condition, so it has to be one.
            NOT_READY => {
                report.not_ready = label(REASON).filter(|it| is_reason(it)).map(Name::from);
            }
            INFO => seen = label(EVIDENCE).and_then(|it| it.parse().ok()) == Some(Evidence::Seen),
            _ => {}
        }
    }
    work.map(|work| AgentReport { work: Facts { seen, ..work }, ..report })
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
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
        let work = |text: &str| parse(text).map(|report| report.work);
        let expected =
            Facts { shares_accepted: 7, shares_rejected: 3, hashes: 9_000_000_000, seen: true };
        assert_eq!(work(text), Some(expected));
        let claimed = text.replace("seen", "claimed");
        assert_eq!(work(&claimed), Some(Facts { seen: false, ..expected }));
        assert_eq!(work("up 1\n"), None);
        let absurd = "daylight_miner_hashes_total{a=\"1\"} 9e17\n".repeat(100);
        assert_eq!(work(&absurd).unwrap().hashes, u64::MAX, "it does not overflow");
        let report = parse(&format!(
            "{text}daylight_miner_hashrate{{algorithm=\"rx/0\"}} 18.5\ndaylight_miner_not_ready{{reason=\"NotHashing\"}} 1\n"
        ));
        let report = report.unwrap();
        assert_eq!(
            (report.hashrate, report.not_ready.as_deref()),
            (Some(18.5), Some("NotHashing"))
        );
    }
}
