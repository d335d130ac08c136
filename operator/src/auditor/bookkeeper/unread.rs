//! Energy that is not read, for the pools' condition and the metrics.

use std::collections::BTreeMap;
use std::fmt;

use daylight_base::{Name, Timestamp};
use daylight_meter::{UnreadCause, UnreadDevice};

use super::Bookkeeper;

/// Devices of a pool whose energy is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::auditor) struct UnreadEnergy {
    /// Number of the devices whose energy is not read.
    pub(in crate::auditor) devices: usize,
    /// Number of all devices that exporters should list.
    pub(in crate::auditor) of: usize,
    /// Time up to which the energy of all of them is booked; `None` while one was never read.
    pub(in crate::auditor) read_until: Option<Timestamp>,
    /// The first node by name, and its cause.
    first: Option<(Name, String)>,
}

/// Node whose energy is known up to an early time only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::auditor) struct LateNode {
    pub(in crate::auditor) pool: Name,
    pub(in crate::auditor) node: Name,
    /// Time up to which all is booked; the time at which the first device joined that was never read.
    pub(in crate::auditor) until: Timestamp,
}

impl fmt::Display for UnreadEnergy {
    /// Writes the sentence of the pool's condition.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, of, first, .. } = self;
        write!(f, "The energy of {devices} of {of} GPUs is not read.")?;
        match first {
            Some((node, cause)) => write!(f, " Node {node}: {cause}."),
            None => Ok(()),
        }
    }
}

impl Bookkeeper {
    /// Returns the state of the energy of each pool's devices; empty without an exporter, where
    /// energy is what miners declare.
    pub(in crate::auditor) fn unread_energy(&self, now: Timestamp) -> BTreeMap<Name, UnreadEnergy> {
        let mut pools: BTreeMap<Name, UnreadEnergy> = BTreeMap::new();
        if self.exporters.is_empty() {
            return pools;
        }
        for (node, sent) in &self.node_sent {
            let Some(pool) = &sent.pool else { continue };
            if sent.devices.is_empty() {
                continue;
            }
            let (devices, cause) = self.unread_on(node, sent.devices.len(), now);
            let read_until = self.meter.read_until(node);
            let begun = pools.contains_key(pool);
            let entry = pools.entry(pool.clone()).or_default();
            entry.read_until = match begun {
                true => entry.read_until.zip(read_until).map(|(one, other)| one.min(other)),
                false => read_until,
            };
            entry.of += sent.devices.len();
            entry.devices += devices;
            if let Some(cause) = cause
                && entry.first.as_ref().is_none_or(|(first, _)| node < first)
            {
                entry.first = Some((node.clone(), cause));
            }
        }
        pools
    }

    /// Returns the nodes whose readings are late: the energy of one of their devices has not been known
    /// for longer than that takes to count as unread.
    pub(in crate::auditor) fn late_nodes(&self) -> Vec<LateNode> {
        if self.exporters.is_empty() {
            return Vec::new();
        }
        let booked = self.meter.booked_until();
        let nodes = self.node_sent.iter().filter(|(_, sent)| !sent.devices.is_empty());
        let late = nodes.filter_map(|(node, sent)| {
            let until = self.meter.known_until(node)?;
            let is_late = booked.millis_since(until) > self.meter.unread_after();
            Some(LateNode { pool: sent.pool.clone()?, node: node.clone(), until })
                .filter(|_| is_late)
        });
        late.collect()
    }

    /// Returns how many of a node's devices are not read, and why.
    fn unread_on(&self, node: &Name, devices: usize, now: Timestamp) -> (usize, Option<String>) {
        let failures = self.scrape_failures.range((node.clone(), 0)..=(node.clone(), usize::MAX));
        let failure = failures.map(|((_, exporter), reason)| {
            format!("the exporter {} cannot be read: {reason}", self.exporters[*exporter])
        });
        let failure = failure.reduce(|all, one| format!("{all}; {one}"));
        if let Some(since) = self.unlisted_since.get(node) {
            if self.awaits_exporters || now.millis_since(*since) <= self.meter.unread_after() {
                return (0, None);
            }
            let cause = failure.unwrap_or_else(|| {
                "no exporter runs there; name the DaemonSet of one in auditor.exporter".to_owned()
            });
            return (devices, Some(cause));
        }
        let unread = self.meter.unread_devices(node);
        let Some(UnreadDevice { device, cause }) = unread.first() else { return (0, None) };
        let cause = failure.unwrap_or_else(|| match cause {
            UnreadCause::Never => format!("device {device} has never reported energy or power"),
            UnreadCause::Since(since) => {
                format!("device {device} has reported nothing new since {since}")
            }
            UnreadCause::GivenUp => {
                format!("device {device} has reported nothing for long and is taken to draw its limit")
            }
            UnreadCause::Stopped => format!(
                "the energy counter of device {device} does not move, so its energy is estimated by \
                 its power"
            ),
            UnreadCause::Mismatch(since) => format!(
                "energy counter, power and power limit of device {device} have contradicted each \
                 other since {since}"
            ),
        });
        (unread.len(), Some(cause))
    }
}

#[cfg(test)]
mod tests {
    use daylight_cluster::{Change, Event};
    use daylight_exposition::devices;
    use daylight_meter::{Config, Meter};
    use serde_json::json;

    use super::*;
    use crate::auditor::bookkeeper::BookSettings;
    use crate::auditor::exporter::scrape::Scrape;
    use crate::auditor::poll::Answer;
    use crate::gpu_resources::GpuResources;

    const NVIDIA: usize = 0;
    const AMD: usize = 1;
    const MINUTE: u64 = 60_000;

    fn at(minutes: u64) -> Timestamp {
        Timestamp(1_700_000_000_000).plus_millis(minutes * MINUTE)
    }

    /// Books of a pool with these nodes of two GPUs, some minutes after their exporters had the time
    /// to answer.
    fn books(nodes: &[&str]) -> Bookkeeper {
        let settings = BookSettings {
            resources: GpuResources::new(["nvidia.com/gpu", "amd.com/gpu"]),
            exporters: vec!["a/dcgm:9400".parse().unwrap(), "b/amd:5000".parse().unwrap()],
            ..BookSettings::default()
        };
        let mut books = Bookkeeper::new(Meter::new(Config::default()), settings);
        let pool = json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
            "metadata": {"name": "hall", "uid": "1", "generation": 1, "resourceVersion": "1"},
            "spec": {
                "resource": "nvidia.com/gpu", "site": {"name": "s"},
                "nodeSelector": {"matchLabels": {"gpu": "yes"}},
            },
        });
        let pool = Box::new(serde_json::from_value(pool).unwrap());
        books.apply(Event::GpuPool(Change::Applied(pool)), at(0));
        for node in nodes {
            let node = json!({
                "metadata": {
                    "name": node, "uid": node, "resourceVersion": "2", "labels": {"gpu": "yes"},
                },
                "status": {"allocatable": {"nvidia.com/gpu": "2"}},
            });
            let node = Box::new(serde_json::from_value(node).unwrap());
            books.apply(Event::Node(Change::Applied(node)), at(0));
        }
        books.begin(at(0));
        books
    }

    fn scrape(books: &mut Bookkeeper, exporter: usize, node: &str, minutes: u64, text: &str) {
        let answer = Answer {
            from: node.into(),
            asked: at(minutes),
            answered: at(minutes),
            content: devices(text).map_err(|error| error.to_string()),
        };
        books.scraped(&Scrape { exporter, answer }, at(minutes));
    }

    fn dcgm(joules: u64) -> String {
        ["GPU-1a", "GPU-2b"]
            .map(|id| {
                format!("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{UUID=\"{id}\"}} {joules}000\n")
            })
            .concat()
    }

    fn advance(books: &mut Bookkeeper, minutes: u64) -> Option<UnreadEnergy> {
        books.refresh(at(minutes));
        books.meter.advance(at(minutes));
        books.unread_energy(at(minutes)).remove("hall")
    }

    #[test]
    fn energy_that_is_not_read_is_named_with_its_cause_within_minutes() {
        let mut books = books(&["n1", "n2"]);
        assert_eq!(advance(&mut books, 0), None, "the exporters have time to answer");
        for minutes in 1..=4 {
            scrape(&mut books, NVIDIA, "n1", minutes, &dcgm(minutes * 100));
            scrape(&mut books, NVIDIA, "n2", minutes, "up 1\n");
            let unread = advance(&mut books, minutes).unwrap();
            assert_eq!((unread.devices, unread.of), (if minutes > 3 { 2 } else { 0 }, 4));
        }
        let late = books.late_nodes();
        let [LateNode { pool, node, until }] = &late[..] else { panic!("{late:?}") };
        assert_eq!((&**pool, &**node, *until), ("hall", "n2", at(1)), "since the first booking");
        // n1 is read no more.
        let unread = (5..=6).map(|minutes| advance(&mut books, minutes).unwrap().devices);
        assert_eq!(unread.collect::<Vec<_>>(), [2, 2]);
        let unread = advance(&mut books, 7).unwrap();
        let sentence = "The energy of 4 of 4 GPUs is not read. Node n1: device GPU-1a has reported \
                        nothing new since 2023-11-14T22:17:20Z.";
        assert_eq!(unread.to_string(), sentence);
        let failed = Answer {
            from: "n1".into(),
            asked: at(7),
            answered: at(7),
            content: Err("no answer within 5s".to_owned()),
        };
        books.scraped(&Scrape { exporter: NVIDIA, answer: failed }, at(7));
        let sentence = "The energy of 4 of 4 GPUs is not read. Node n1: the exporter a/dcgm:9400 \
                        cannot be read: no answer within 5s.";
        assert_eq!(advance(&mut books, 7).unwrap().to_string(), sentence);

        scrape(&mut books, NVIDIA, "n1", 8, &dcgm(900));
        let unread = advance(&mut books, 8).unwrap();
        let sentence = "The energy of 2 of 4 GPUs is not read. Node n2: the exporter a/dcgm:9400 \
                        cannot be read: the answer has no metric of a device's energy or power.";
        assert_eq!(unread.to_string(), sentence);
        scrape(&mut books, NVIDIA, "n2", 9, &dcgm(5).replace("GPU-", "GPU-n2"));
        scrape(&mut books, NVIDIA, "n1", 9, &dcgm(1000));
        assert_eq!(advance(&mut books, 9).unwrap().devices, 0);
    }

    #[test]
    fn a_node_without_an_exporter_is_not_read_where_others_have_one() {
        let mut books = books(&["n1"]);
        for minutes in 1..4 {
            assert_eq!(advance(&mut books, minutes).unwrap().devices, 0);
        }
        let sentence = "The energy of 2 of 2 GPUs is not read. Node n1: no exporter runs there; name \
                        the DaemonSet of one in auditor.exporter.";
        assert_eq!(advance(&mut books, 4).unwrap().to_string(), sentence);
    }

    /// Each vendor's exporter may run on every node and find nothing on those of the other.
    #[test]
    fn a_node_has_the_devices_of_all_its_exporters() {
        let mut books = books(&["n1", "n2"]);
        let amd = "gpu_energy_consumed{gpu_id=\"0\",serial_number=\"S\"} 5000000\n";
        for minutes in 1..4 {
            for node in ["n1", "n2"] {
                let dcgm = dcgm(minutes * 100).replace("GPU-", &format!("GPU-{node}-"));
                scrape(&mut books, NVIDIA, node, minutes, &dcgm);
            }
            scrape(&mut books, AMD, "n1", minutes, &amd.replace('5', &minutes.to_string()));
            scrape(&mut books, AMD, "n2", minutes, "up 1\n");
            let unread = advance(&mut books, minutes).unwrap();
            assert_eq!((unread.devices, unread.of), (0, 5));
        }
        let ids = |node| books.meter.devices_of(node).into_iter().map(|device| device.id);
        assert_eq!(ids("n1").collect::<Vec<_>>(), ["GPU-n1-1a", "GPU-n1-2b", "S"].map(Name::from));
        assert_eq!(ids("n2").count(), 2);
    }

    #[test]
    fn a_restart_keeps_the_devices_of_exporters_that_have_not_answered() {
        let mut books = books(&["n1"]);
        let amd = "gpu_energy_consumed{gpu_id=\"0\",serial_number=\"S\"} 5000000\n";
        scrape(&mut books, NVIDIA, "n1", 1, &dcgm(1));
        scrape(&mut books, AMD, "n1", 1, amd);
        advance(&mut books, 2);
        let entries = books.meter.snapshot();
        let meter = Meter::restore(Config::default(), entries).unwrap();
        let settings = BookSettings { exporters: books.exporters.clone(), ..Default::default() };
        let restored = Bookkeeper::new(meter, settings);
        let Bookkeeper { meter, listed, .. } = restored;
        (books.meter, books.listed) = (meter, listed);
        (books.warm_at, books.awaits_exporters) = (Some(at(2)), true);
        scrape(&mut books, AMD, "n1", 2, amd);
        advance(&mut books, 2);
        assert_eq!(books.meter.devices_of("n1").len(), 3);
        scrape(&mut books, NVIDIA, "n1", 2, &dcgm(1).replace("GPU-2b", "GPU-3c"));
        advance(&mut books, 2);
        let ids: Vec<_> =
            books.meter.devices_of("n1").into_iter().map(|device| device.id).collect();
        assert_eq!(ids, ["GPU-1a", "GPU-3c", "S"].map(Name::from));
    }
}
