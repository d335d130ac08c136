//! Properties over random histories: the books close, the truth lies within their bounds, and no
//! bound is wider than what the counters moved. What counts against a limit is never too little, and
//! edits of the limit's period and of the site's time zone take nothing away from it.
//!
//! A small site is simulated to the millisecond. Devices draw the power of their holders, counters
//! integrate it, and exporters refresh now and then. Pods begin and end, and are reported late and
//! in whole seconds. The auditor is killed and continues from what is durable.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Account, Books, Bounded, Config, Entry, GapKind, Meter, Method, Moment, NodeEntry,
    ObservedDevice, ObservedLease, Operated, Period, Reading, Requested, Use,
};
use proptest::prelude::*;
use rustc_hash::FxHashSet;

#[derive(Clone, Debug)]
enum Step {
    Bind {
        node: usize,
        gpus: u32,
        tenant: usize,
        watts: u64,
    },
    End {
        which: usize,
    },
    /// The pod is gone from the API server before its end is observed.
    Vanish {
        which: usize,
    },
    Scrape,
    /// Time passes without an observation.
    Wait,
    Flush,
    Snapshot,
    /// The auditor is killed and starts again after this time.
    Restart {
        down_ms: u64,
    },
    /// The counters start at 0 again.
    Reboot {
        node: usize,
    },
    /// The first device of the node is replaced by another one.
    Replace {
        node: usize,
    },
    /// The limit of a tenant is given another period, and its site another time zone.
    Edit {
        tenant: usize,
        period: usize,
        zone: usize,
    },
}

/// A step, and the milliseconds before it.
fn step() -> impl Strategy<Value = (u64, Step)> {
    let step = prop_oneof![
        6 => (0..2_usize, 1..4_u32, 0..3_usize, 100..700_u64).prop_map(|(node, gpus, tenant, watts)| {
            Step::Bind { node, gpus, tenant, watts }
        }),
        5 => (0..8_usize).prop_map(|which| Step::End { which }),
        1 => (0..8_usize).prop_map(|which| Step::Vanish { which }),
        8 => Just(Step::Scrape),
        1 => Just(Step::Wait),
        1 => Just(Step::Flush),
        1 => Just(Step::Snapshot),
        1 => (0..100_000_u64).prop_map(|down_ms| Step::Restart { down_ms }),
        1 => (0..2_usize).prop_map(|node| Step::Reboot { node }),
        1 => (0..2_usize).prop_map(|node| Step::Replace { node }),
        2 => (0..3_usize, 0..PERIODS.len(), 0..ZONES.len())
            .prop_map(|(tenant, period, zone)| Step::Edit { tenant, period, zone }),
    ];
    (1..15_000_u64, step)
}

const DEVICES: usize = 4;
/// Watts.
const IDLE: u64 = 60;
const BEGIN: i64 = 1_700_000_000_000;
/// Milliseconds that the auditor's horizon lags behind.
const LAG: u64 = 1_500;
/// Power limit of every device, in watts.
const LIMIT: u64 = 750;
/// Milliseconds before its start at which the meter is given a period.
const AHEAD: u64 = 5_000;
/// Lengths of the periods of limits, in milliseconds.
const PERIODS: [i64; 3] = [40_000, 160_000, 1_000_000_000];
/// Beginnings of the periods, in milliseconds: the sites' time zones.
const ZONES: [i64; 3] = [0, 7_000, 25_000];

#[derive(Clone, Debug)]
struct Device {
    id: Name,
    /// True energy, in microjoules.
    counter_uj: u64,
    /// Counter and holder at the exporter's last refresh.
    shown: u64,
    shown_holder: Option<usize>,
    holder: Option<usize>,
}

#[derive(Clone, Debug)]
struct Pod {
    uid: Name,
    node: usize,
    gpus: u32,
    tenant: usize,
    watts: u64,
    bound: u64,
    ended: Option<u64>,
    /// True while the API server has it.
    is_there: bool,
    /// True if it began and ended without a trace: neither API server nor journal has it.
    lost: bool,
    /// True energy, in microjoules, and time, in milliseconds × GPUs.
    drawn_uj: u64,
    held_ms: u64,
}

/// Pod without GPUs.
#[derive(Clone, Debug)]
struct Light {
    uid: Name,
    node: usize,
    account: Account,
    watts: u64,
    bound: u64,
    ended: Option<u64>,
    /// As of [`Pod`].
    is_there: bool,
    lost: bool,
    millicores: u64,
    /// Millicores × milliseconds until `since`.
    true_millicore_ms: u128,
    since: u64,
}

/// Event of pods without GPUs.
#[derive(Clone, Debug)]
enum LightStep {
    Bind { node: usize, account: usize, millicores: u64 },
    End { which: usize },
    Vanish { which: usize },
    Resize { which: usize, millicores: u64 },
}

fn light_step() -> impl Strategy<Value = LightStep> {
    prop_oneof![
        4 => (0..3_usize, 0..5_usize, 1..9_000_u64)
            .prop_map(|(node, account, millicores)| LightStep::Bind { node, account, millicores }),
        3 => (0..8_usize).prop_map(|which| LightStep::End { which }),
        1 => (0..8_usize).prop_map(|which| LightStep::Vanish { which }),
        2 => (0..8_usize, 1..9_000_u64)
            .prop_map(|(which, millicores)| LightStep::Resize { which, millicores }),
    ]
}

struct World {
    now: u64,
    lights: Vec<Light>,
    /// True if all that is booked is durable before the auditor is killed.
    flushes: bool,
    labels: bool,
    refresh: u64,
    nodes: Vec<Vec<Device>>,
    boots: [u32; 2],
    pods: Vec<Pod>,
    meter: Meter,
    durable: Vec<Entry>,
    snapshot_at: usize,
    /// True if no counted energy was lost.
    faultless: bool,
    /// First and last value read of each device, in millijoules.
    read: BTreeMap<Name, (u64, u64)>,
    /// Number of pods and devices made, to name the next one.
    made: u32,
    limits: [Limit; 3],
    /// True energy of each tenant so far, in microjoules, at some times.
    drawn: Vec<(u64, [u64; 3])>,
}

/// Period of the limit of a tenant, and what was reported of its use.
#[derive(Clone, Debug, Default)]
struct Limit {
    period: usize,
    zone: usize,
    /// Time since which the meter has known the zone.
    zone_since: Timestamp,
    /// Starts of the periods that the meter knew when they began.
    timely: BTreeSet<Timestamp>,
    /// Highest use reported, by the start of the period.
    used: BTreeMap<Timestamp, u64>,
}

/// Returns the start and the end of the period that contains a time.
fn period(now: Timestamp, period: usize, zone: usize) -> (Timestamp, Timestamp) {
    let (length, offset) = (PERIODS[period], ZONES[zone]);
    let start = (now.0 - offset).div_euclid(length) * length + offset;
    (Timestamp(start), Timestamp(start + length))
}

fn at(ms: u64) -> Timestamp {
    Timestamp(BEGIN).plus_millis(ms)
}

fn in_second(ms: u64, seen: u64) -> Moment {
    let whole = Timestamp(at(ms).0 / 1000 * 1000);
    Moment::in_second(whole, at(seen))
}

fn tenant(number: usize) -> Account {
    Account {
        class: Some("pow-mining".into()),
        registration: Some(format!("team-{number}/reg").into()),
        namespace: format!("team-{number}").into(),
    }
}

impl World {
    fn new(labels: bool, refresh: u64) -> Self {
        let device = |node: usize, number: usize| Device {
            id: format!("GPU-{node}-{number}").into(),
            counter_uj: 5_000_000_000 * (number as u64 + 1),
            shown: 0,
            shown_holder: None,
            holder: None,
        };
        let nodes = (0..2).map(|node| (0..DEVICES).map(|one| device(node, one)).collect());
        let mut world = Self {
            now: 0,
            lights: Vec::new(),
            flushes: false,
            labels,
            refresh,
            nodes: nodes.collect(),
            boots: [0; 2],
            pods: Vec::new(),
            meter: Meter::new(config(refresh)),
            durable: Vec::new(),
            snapshot_at: 0,
            faultless: true,
            read: BTreeMap::new(),
            made: 0,
            limits: Default::default(),
            drawn: vec![(0, [0; 3])],
        };
        world.refresh_exporters();
        world.report_devices();
        world.scrape();
        world
    }

    fn name(node: usize) -> Name {
        format!("n{node}").into()
    }

    /// Lets time pass, in steps of the exporters' refreshes.
    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            let next = (self.now / self.refresh + 1) * self.refresh;
            let step = next.min(until) - self.now;
            for device in self.nodes.iter_mut().flatten() {
                let watts = device.holder.map_or(IDLE, |pod| self.pods[pod].watts);
                // Watts × milliseconds are millijoules.
                let uj = watts * step * 1000;
                device.counter_uj += uj;
                if let Some(pod) = device.holder {
                    self.pods[pod].drawn_uj += uj;
                    self.pods[pod].held_ms += step;
                }
            }
            self.now += step;
            let mut drawn = [0; 3];
            for pod in &self.pods {
                drawn[pod.tenant] += pod.drawn_uj;
            }
            self.drawn.push((self.now, drawn));
            if self.now == next {
                self.refresh_exporters();
            }
        }
    }

    fn refresh_exporters(&mut self) {
        for device in self.nodes.iter_mut().flatten() {
            device.shown = device.counter_uj / 1000;
            device.shown_holder = device.holder;
        }
    }

    fn report_devices(&mut self) {
        for (node, devices) in self.nodes.iter().enumerate() {
            let devices: Vec<_> = devices
                .iter()
                .map(|device| ObservedDevice {
                    id: device.id.clone(),
                    model: None,
                    limit_mw: Some(1000 * LIMIT),
                })
                .collect();
            let boot: Name = format!("boot-{}", self.boots[node]).into();
            self.meter.boot(&Self::name(node), &boot, at(self.now));
            let pool: Name = "hall".into();
            self.meter.devices(
                &Self::name(node),
                Some(&pool),
                DEVICES as u32,
                &devices,
                at(self.now),
            );
        }
    }

    fn seen(&self, pod: &Pod) -> ObservedLease {
        ObservedLease {
            uid: pod.uid.clone(),
            pod: format!("ns/{}", pod.uid).into(),
            node: Self::name(pod.node),
            gpus: pod.gpus,
            requested: Requested::default(),
            account: tenant(pod.tenant),
            watts: pod.watts,
            bound: in_second(pod.bound, self.now),
            started: None,
            owed: pod.is_there,
        }
    }

    fn bind(&mut self, node: usize, gpus: u32, tenant: usize, watts: u64) {
        let free: Vec<usize> =
            (0..DEVICES).filter(|one| self.nodes[node][*one].holder.is_none()).collect();
        if free.len() < gpus as usize {
            return;
        }
        self.made += 1;
        let pod = Pod {
            uid: format!("pod-{}", self.made).into(),
            node,
            gpus,
            tenant,
            watts,
            bound: self.now,
            ended: None,
            is_there: true,
            lost: false,
            drawn_uj: 0,
            held_ms: 0,
        };
        let number = self.pods.len();
        for one in &free[..gpus as usize] {
            self.nodes[node][*one].holder = Some(number);
        }
        self.pods.push(pod);
        // The watch reports it a moment later, and repeats itself.
        self.pass(300);
        for _ in 0..2 {
            let seen = self.seen(&self.pods[number]);
            self.meter.lease(seen, at(self.now));
        }
    }

    fn release(&mut self, which: usize) -> Option<usize> {
        let running: Vec<usize> =
            (0..self.pods.len()).filter(|pod| self.pods[*pod].ended.is_none()).collect();
        let number = *running.get(which % running.len().max(1))?;
        self.pods[number].ended = Some(self.now);
        for device in self.nodes.iter_mut().flatten() {
            if device.holder == Some(number) {
                device.holder = None;
            }
        }
        Some(number)
    }

    fn report_end(&mut self, number: usize) {
        let seen = self.seen(&self.pods[number]);
        let ended = in_second(self.pods[number].ended.unwrap(), self.now);
        self.meter.ended(seen, ended, None, at(self.now));
    }

    fn scrape(&mut self) {
        let now = at(self.now);
        for node in 0..self.nodes.len() {
            let readings: Vec<Reading> = self.nodes[node]
                .iter()
                .map(|device| Reading {
                    device: device.id.clone(),
                    counter_mj: Some(device.shown),
                    power_mw: None,
                    holder: device
                        .shown_holder
                        .filter(|_| self.labels)
                        .map(|pod| format!("ns/{}", self.pods[pod].uid).into()),
                })
                .collect();
            for reading in &readings {
                let value = reading.counter_mj.unwrap();
                let read = self.read.entry(reading.device.clone()).or_insert((value, value));
                read.1 = value;
            }
            self.meter.readings(&Self::name(node), Moment::exactly(now), &readings);
        }
    }

    fn commit(&mut self) {
        self.durable.extend(self.meter.take_entries());
    }

    fn light(&self, light: &Light) -> ObservedLease {
        ObservedLease {
            uid: light.uid.clone(),
            pod: format!("ns/{}", light.uid).into(),
            node: Self::name(light.node),
            gpus: 0,
            requested: Requested { millicores: light.millicores, ..Requested::default() },
            account: light.account.clone(),
            watts: light.watts,
            bound: in_second(light.bound, self.now),
            started: None,
            owed: false,
        }
    }

    /// Something happens to a pod without GPUs, in no time.
    fn take_light(&mut self, step: &LightStep) {
        let running: Vec<usize> =
            (0..self.lights.len()).filter(|one| self.lights[*one].ended.is_none()).collect();
        let pick = |which: usize| running.get(which % running.len().max(1)).copied();
        let now = self.now;
        match *step {
            LightStep::Bind { node, account, millicores } => {
                self.made += 1;
                // Some are of accounts that hold GPUs, too.
                let (account, watts) = match account {
                    0..3 => (tenant(account), 0),
                    other => (tenant(other), 40),
                };
                self.lights.push(Light {
                    uid: format!("light-{}", self.made).into(),
                    node,
                    account,
                    watts,
                    bound: now,
                    ended: None,
                    is_there: true,
                    lost: false,
                    millicores,
                    true_millicore_ms: 0,
                    since: now,
                });
                self.report_light(self.lights.len() - 1);
            }
            LightStep::End { which } => {
                let Some(number) = pick(which) else { return };
                self.end_light(number);
                self.report_light(number);
                self.report_light(number);
            }
            LightStep::Vanish { which } => {
                let Some(number) = pick(which) else { return };
                self.end_light(number);
                self.lights[number].is_there = false;
                let uid = self.lights[number].uid.clone();
                self.meter.vanish(&uid, at(now));
            }
            LightStep::Resize { which, millicores } => {
                let Some(number) = pick(which) else { return };
                self.integrate_light(number);
                self.lights[number].millicores = millicores;
                self.report_light(number);
            }
        }
    }

    fn integrate_light(&mut self, number: usize) {
        let light = &mut self.lights[number];
        let ms = self.now - light.since;
        light.true_millicore_ms += u128::from(light.millicores) * u128::from(ms);
        light.since = self.now;
    }

    fn end_light(&mut self, number: usize) {
        self.integrate_light(number);
        self.lights[number].ended = Some(self.now);
    }

    fn report_light(&mut self, number: usize) {
        let light = &self.lights[number];
        let seen = self.light(light);
        match light.ended {
            Some(ended) => {
                let ended = in_second(ended, self.now);
                self.meter.ended(seen, ended, None, at(self.now));
            }
            None => self.meter.lease(seen, at(self.now)),
        }
    }

    fn restart(&mut self, down: u64) {
        if self.flushes {
            self.meter.flush();
            self.commit();
        }
        self.pass(down);
        // What was not durable is counted again from the next reading on.
        self.limits.iter_mut().for_each(|limit| limit.used.clear());
        let entries = self.durable[self.snapshot_at..].iter().map(|entry| {
            // As read from the journal.
            serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap()
        });
        self.meter = Meter::restore(config(self.refresh), entries).unwrap();
        // If a device's first reading was not durable, the next one becomes the first.
        let mut read: FxHashSet<Name> = FxHashSet::default();
        let mut known: FxHashSet<Name> = FxHashSet::default();
        for entry in node_entries(&self.durable) {
            if let Some(state) = &entry.state {
                let devices = state.devices.iter().filter(|device| device.last.is_some());
                read.extend(devices.map(|device| device.seen.id.clone()));
                let leases = state.leases.iter().chain(&state.without_gpus);
                known.extend(leases.map(|lease| lease.uid.clone()));
            }
            known.extend(entry.closed.iter().map(|closed| closed.lease.uid.clone()));
        }
        self.read.retain(|device, _| read.contains(device));
        for pod in &mut self.pods {
            pod.lost |= !pod.is_there && !known.contains(&pod.uid);
        }
        for light in &mut self.lights {
            light.lost |= !light.is_there && !known.contains(&light.uid);
            // What is not on record yet is booked as it is observed then.
            if !known.contains(&light.uid) {
                light.true_millicore_ms =
                    u128::from(light.millicores) * u128::from(light.since - light.bound);
            }
        }
        self.report_devices();
        let pods = self.pods.iter().filter(|pod| pod.is_there).map(|pod| pod.uid.clone());
        let lights = self.lights.iter().filter(|one| one.is_there).map(|one| one.uid.clone());
        let present: FxHashSet<Name> = pods.chain(lights).collect();
        for number in 0..self.lights.len() {
            if self.lights[number].is_there {
                self.report_light(number);
            }
        }
        for number in 0..self.pods.len() {
            if !self.pods[number].is_there {
                continue;
            }
            if self.pods[number].ended.is_some() {
                self.report_end(number);
            } else {
                let seen = self.seen(&self.pods[number]);
                self.meter.lease(seen, at(self.now));
            }
        }
        self.meter.vanished(&present, at(self.now));
    }

    fn advance(&mut self) {
        let now = at(self.now);
        let horizon = now.minus_millis(LAG);
        for time in [self.meter.booked_until(), horizon, now.plus_millis(AHEAD)] {
            for (number, limit) in self.limits.iter_mut().enumerate() {
                for length in 0..PERIODS.len() {
                    let (start, end) = period(time, length, limit.zone);
                    if start >= limit.zone_since || start < Timestamp(BEGIN) {
                        limit.timely.insert(start);
                    }
                    let registration = tenant(number).registration.unwrap();
                    self.meter.begin_periods([Period { registration, owner: None, start, end }]);
                }
            }
        }
        self.meter.advance(horizon);
    }

    /// Returns the true energy of a tenant until a time, in microjoules.
    fn drawn_until(&self, number: usize, until: Timestamp) -> u64 {
        let ms = until.millis_since(Timestamp(BEGIN));
        let next = self.drawn.partition_point(|(at, _)| *at < ms);
        let Some((at, drawn)) = self.drawn.get(next) else {
            return self.drawn.last().unwrap().1[number];
        };
        let Some((before, drawn_before)) = next.checked_sub(1).map(|last| &self.drawn[last]) else {
            return drawn[number];
        };
        let moved = drawn[number] - drawn_before[number];
        drawn_before[number] + moved * (ms - before) / (at - before)
    }

    /// Checks what counts against the tenants' limits.
    fn check_limits(&mut self) -> Result<(), String> {
        for number in 0..3 {
            let Limit { period: length, zone, .. } = self.limits[number];
            let (start, _) = period(self.meter.booked_until(), length, zone);
            let usage = self.meter.usage(&tenant(number).registration.unwrap(), start);
            // Without what unread devices may have drawn, which is replaced once they are read.
            let used = self.meter.counts().since(&tenant(number).registration.unwrap(), start);
            let before = self.limits[number].used.insert(start, used);
            if before.is_some_and(|before| used < before) {
                return Err(format!("tenant {number}: {used} of {usage:?} after {before:?}"));
            }
            let of_tenant = self.pods.iter().filter(|pod| pod.tenant == number);
            let most = of_tenant.map(|pod| pod.watts * u64::from(pod.gpus)).max();
            if usage.peak_watts > most.unwrap_or_default() && !self.pods.iter().any(|pod| pod.lost)
            {
                return Err(format!("tenant {number} drew {most:?} W: {usage:?}"));
            }
            let is_lost = self.pods.iter().any(|pod| pod.tenant == number && pod.lost);
            if let Some(until) = usage.metered_until
                && self.limits[number].timely.contains(&start)
                && !is_lost
            {
                let (since, until) =
                    (self.drawn_until(number, start), self.drawn_until(number, until));
                let drawn = until.saturating_sub(since) / 1000;
                if usage.millijoules + 1 < drawn {
                    return Err(format!("tenant {number} drew {drawn}: {usage:?}"));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Bind { node, gpus, tenant, watts } => {
                self.bind(*node, *gpus, *tenant, *watts);
            }
            Step::End { which } => {
                if let Some(number) = self.release(*which) {
                    self.pass(400);
                    self.report_end(number);
                    self.report_end(number);
                }
            }
            Step::Vanish { which } => {
                if let Some(number) = self.release(*which) {
                    self.pods[number].is_there = false;
                    self.pass(200);
                    let uid = self.pods[number].uid.clone();
                    self.meter.vanish(&uid, at(self.now));
                }
            }
            Step::Scrape => self.scrape(),
            Step::Wait => {}
            Step::Edit { tenant, period, zone } => {
                let limit = &mut self.limits[*tenant];
                if limit.zone != *zone {
                    limit.zone_since = self.meter.booked_until();
                }
                (limit.period, limit.zone) = (*period, *zone);
            }
            Step::Flush => {
                self.meter.flush();
                self.commit();
            }
            Step::Snapshot => {
                let entries = self.meter.snapshot();
                let begin =
                    entries.iter().position(|entry| matches!(entry, Entry::SnapshotBegin)).unwrap();
                self.snapshot_at = self.durable.len() + begin;
                self.durable.extend(entries);
            }
            Step::Restart { down_ms } => self.restart(*down_ms),
            Step::Reboot { node } => {
                self.faultless = false;
                for device in &mut self.nodes[*node] {
                    device.counter_uj = 0;
                    device.shown = 0;
                }
                self.boots[*node] += 1;
                self.report_devices();
            }
            Step::Replace { node } => {
                self.faultless = false;
                self.made += 1;
                let made = self.made;
                let device = &mut self.nodes[*node][0];
                device.id = format!("GPU-new-{made}").into();
                device.counter_uj = 77_000_000;
                device.shown = 77_000;
                self.report_devices();
            }
        }
    }

    /// Ends all pods and lets time pass until everything is booked.
    fn settle(&mut self) {
        let running: Vec<usize> =
            (0..self.pods.len()).filter(|pod| self.pods[*pod].ended.is_none()).collect();
        for _ in running {
            if let Some(number) = self.release(0) {
                self.pass(100);
                self.report_end(number);
            }
        }
        for number in 0..self.lights.len() {
            if self.lights[number].ended.is_none() {
                self.end_light(number);
                self.report_light(number);
            }
        }
        for _ in 0..4 {
            self.pass(self.refresh + 3_000);
            self.scrape();
            self.advance();
        }
        self.pass(self.refresh + 3_000);
        self.advance();
        self.meter.flush();
        self.commit();
    }
}

fn config(refresh: u64) -> Config {
    Config { refresh_ms: refresh, book_every_ms: 20_000, ..Config::default() }
}

fn node_entries(entries: &[Entry]) -> impl Iterator<Item = &NodeEntry> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Node(entry) => Some(&**entry),
        _ => None,
    })
}

/// Milliseconds and millijoules of a tenant, each with its lower and upper bound.
fn of_tenant(books: &Books, number: usize) -> (u64, u64, u64, u64) {
    let account = tenant(number);
    let mut time = (0, 0);
    for (key, ms) in &books.time {
        if key.usage == Use::Lease(account.clone()) {
            time.0 += ms.lower();
            time.1 += ms.upper();
        }
    }
    let energy = books.energy_where(|key, _| key.usage == Use::Lease(account.clone()));
    (time.0, time.1, energy.lower(), energy.upper())
}

/// Checks that the lines of an entry add up to its totals, for every pool.
fn closes(entry: &NodeEntry) -> Result<(), String> {
    let mut booked: BTreeMap<&Option<Name>, (u64, u64)> = BTreeMap::new();
    for time in &entry.time {
        booked.entry(&time.key.pool).or_default().0 += time.ms.value;
    }
    for energy in entry.energy.iter().filter(|one| one.method != Method::Declared) {
        booked.entry(&energy.key.pool).or_default().1 += energy.mj.value;
    }
    for pool in &entry.pools {
        let (ms, mj) = booked.remove(&pool.pool).unwrap_or_default();
        if (ms, mj) != (pool.capacity_ms, pool.moved_mj) {
            return Err(format!("{ms} ms and {mj} mJ are booked of {pool:?}"));
        }
    }
    match booked.iter().find(|(_, (ms, mj))| ms + mj > 0) {
        Some((pool, booked)) => {
            Err(format!("{booked:?} are booked of {pool:?}, which has no total"))
        }
        None => Ok(()),
    }
}

/// Checks that no account may have drawn more than the counters moved, apart from what was not read.
fn is_tight(entry: &NodeEntry) -> Result<(), String> {
    let moved: u64 = entry.pools.iter().map(|pool| pool.moved_mj).sum();
    let unread = entry.gaps.iter().filter(|gap| {
        matches!(gap.kind, GapKind::First | GapKind::Reset | GapKind::Jump | GapKind::Left)
    });
    let unread: u64 = unread.map(|gap| LIMIT * gap.between.width()).sum();
    let mut upper: BTreeMap<&Use, u64> = BTreeMap::new();
    for line in entry.energy.iter().filter(|line| line.method != Method::Declared) {
        *upper.entry(&line.key.usage).or_default() += line.mj.upper();
    }
    match upper.iter().find(|(_, upper)| **upper > moved + unread) {
        Some((usage, upper)) => Err(format!("{usage:?}: at most {upper} of {moved} + {unread}")),
        None => Ok(()),
    }
}

/// Checks that the halves of an entry, and theirs, add up to it.
fn halves_add_up(entry: &NodeEntry) -> Result<(), String> {
    let mut parts = vec![NodeEntry { state: None, ..entry.clone() }];
    let mut leaves = Vec::new();
    while let Some(part) = parts.pop() {
        match part.clone().halves() {
            Some(halves) => parts.extend(halves),
            None => leaves.push(part),
        }
    }
    let sums = |entries: &[NodeEntry]| {
        let mut amounts: BTreeMap<String, u64> = BTreeMap::new();
        let mut add = |key: String, amount: u64| *amounts.entry(key).or_default() += amount;
        for entry in entries {
            let NodeEntry {
                node: _,
                from: _,
                until: _,
                time,
                energy,
                operated,
                pools,
                used,
                devices,
                closed,
                settled,
                gaps,
                gone: _,
                state: _,
            } = entry;
            for one in time {
                add(format!("{:?} value", one.key), one.ms.value);
                add(format!("{:?} below", one.key), one.ms.below);
                add(format!("{:?} above", one.key), one.ms.above);
            }
            for one in energy {
                add(format!("{:?} {:?} value", one.key, one.method), one.mj.value);
                add(format!("{:?} {:?} below", one.key, one.method), one.mj.below);
                add(format!("{:?} {:?} above", one.key, one.method), one.mj.above);
            }
            for one in operated {
                let of = format!("{:?} {:?}", one.pool, one.account);
                add(format!("{of} pods"), one.operated.pod_ms.value);
                add(format!("{of} below"), one.operated.pod_ms.below);
                add(format!("{of} ended"), one.operated.ended_ms);
                add(format!("{of} CPU"), one.operated.millicore_ms.value as u64);
            }
            for one in pools {
                add(format!("{:?} capacity", one.pool), one.capacity_ms);
                add(format!("{:?} moved", one.pool), one.moved_mj);
                add(format!("{:?} overcommitted", one.pool), one.overcommitted_ms);
                add(format!("{:?} gap", one.pool), one.gap_ms);
            }
            for one in used {
                add(format!("{} {:?} used", one.registration, one.start), one.millijoules);
            }
            devices.iter().for_each(|one| add(format!("{one:?}"), 1));
            closed.iter().for_each(|one| add(format!("{one:?}"), 1));
            settled.iter().for_each(|one| add(format!("{one:?}"), 1));
            gaps.iter().for_each(|one| add(format!("{one:?}"), 1));
        }
        amounts.retain(|_, amount| *amount > 0);
        amounts
    };
    let (whole, split) = (sums(std::slice::from_ref(entry)), sums(&leaves));
    if whole == split { Ok(()) } else { Err(format!("{split:?} of {whole:?}")) }
}

/// Runs 1500 cases, or `PROPTEST_CASES` if that is more.
fn proptest_config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1500), ..default }
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn the_books_close_and_the_truth_is_within_their_bounds(
        labels in any::<bool>(),
        refresh in prop_oneof![Just(1_000_u64), Just(10_000), Just(30_000)],
        history in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(labels, refresh);
        for (after_ms, step) in &history {
            world.pass(*after_ms);
            world.take(step);
            world.advance();
            world.commit();
            if let Err(imbalance) = world.meter.check() {
                prop_assert!(false, "after {step:?}: {imbalance}");
            }
            if let Err(wrong) = world.check_limits() {
                prop_assert!(false, "after {step:?}: {wrong}");
            }
        }
        world.settle();
        let books = world.meter.books();
        prop_assert_eq!(books.check(), Ok(()));

        let mut books_began: BTreeMap<&Name, Timestamp> = BTreeMap::new();
        // Each entry closes by itself, and so does every period that is made of entries.
        for entry in node_entries(&world.durable) {
            prop_assert_eq!(closes(entry), Ok(()));
            // A lease may have begun in the second before the books of its node did.
            let began = *books_began.entry(&entry.node).or_insert(entry.from);
            if entry.from > began.plus_millis(1_000) {
                prop_assert_eq!(is_tight(entry), Ok(()));
            }
        }
        for entry in node_entries(&world.durable).step_by(5) {
            prop_assert_eq!(halves_add_up(entry), Ok(()));
        }

        // Every lease is closed once.
        let mut closed: BTreeMap<Name, u32> = BTreeMap::new();
        for one in node_entries(&world.durable).flat_map(|entry| &entry.closed) {
            *closed.entry(one.lease.uid.clone()).or_default() += 1;
        }
        for pod in world.pods.iter().filter(|pod| !pod.lost) {
            prop_assert_eq!(closed.get(&pod.uid), Some(&1), "{:?}", pod);
        }

        // The truth is within the bounds.
        for number in 0..3 {
            let of = world.pods.iter().filter(|pod| pod.tenant == number && !pod.lost);
            let (ms, uj) = of.fold((0, 0), |sum, pod| (sum.0 + pod.held_ms, sum.1 + pod.drawn_uj));
            let (least_ms, most_ms, least_mj, most_mj) = of_tenant(&books, number);
            prop_assert!((least_ms..=most_ms).contains(&ms), "time {ms} of {least_ms}..{most_ms}");
            let mj = uj / 1000;
            prop_assert!(mj <= most_mj + 1, "tenant {number} drew {mj}, at most {most_mj}");
            if world.faultless {
                prop_assert!(least_mj <= mj + 1, "tenant {number} drew {mj}, at least {least_mj}");
            }
        }

        // So is that of each lease: what a receipt of its job has.
        for one in node_entries(&world.durable).flat_map(|entry| &entry.settled) {
            let measured = one.methods.iter().filter(|(method, _)| **method != Method::Declared);
            let measured: u64 = measured.map(|(_, mj)| mj.value).sum();
            prop_assert_eq!(measured, one.energy.value, "{:?}", one);
            let Some(pod) = world.pods.iter().find(|pod| pod.uid == one.uid && !pod.lost) else {
                continue;
            };
            let mj = pod.drawn_uj / 1000;
            let most: u64 = one.methods.values().map(Bounded::upper).sum();
            prop_assert!(mj <= most + 1, "{pod:?} drew {mj}, at most {most}: {one:?}");
            let least: u64 = one.methods.values().map(Bounded::lower).sum();
            if world.faultless {
                prop_assert!(least <= mj + 1, "{pod:?} drew {mj}, at least {least}: {one:?}");
            }
        }

        // Exactly the movement of the counters is booked.
        if world.faultless {
            let moved: u64 = world.read.values().map(|(first, last)| last - first).sum();
            let booked: u64 = books.pools.values().map(|pool| pool.moved_mj).sum();
            prop_assert_eq!(booked, moved);
        }

        // A meter restored from the journal has the same books.
        let restored =
            Meter::restore(config(refresh), world.durable[world.snapshot_at..].iter().cloned());
        let restored = restored.unwrap();
        prop_assert_eq!(restored.books(), books);
        for number in 0..3 {
            let registration = tenant(number).registration.unwrap();
            for length in 0..PERIODS.len() {
                let limit = &world.limits[number];
                let (start, _) = period(world.meter.booked_until(), length, limit.zone);
                let used = |meter: &Meter| meter.counts().since(&registration, start);
                prop_assert_eq!(used(&restored), used(&world.meter));
            }
        }
    }

    /// Pods without GPUs are booked, and leave the devices' books as they are.
    #[test]
    fn leases_without_gpus_are_booked_and_change_nothing_of_the_devices(
        labels in any::<bool>(),
        refresh in prop_oneof![Just(1_000_u64), Just(10_000)],
        history in prop::collection::vec(
            (step(), prop::collection::vec(light_step(), 0..4)), 1..40,
        ),
    ) {
        let [mut with, mut without] = [(); 2].map(|()| World::new(labels, refresh));
        for ((after_ms, step), lights) in &history {
            for world in [&mut with, &mut without] {
                world.flushes = true;
                world.pass(*after_ms);
                world.take(step);
            }
            lights.iter().for_each(|light| with.take_light(light));
            for world in [&mut with, &mut without] {
                world.advance();
                world.commit();
                if let Err(imbalance) = world.meter.check() {
                    prop_assert!(false, "after {step:?}: {imbalance}");
                }
            }
        }
        with.settle();
        without.settle();
        let (books, bare) = (with.meter.books(), without.meter.books());
        prop_assert_eq!(&books.time, &bare.time);
        prop_assert_eq!(&books.pools, &bare.pools);
        let mut of_devices = books.energy.clone();
        of_devices.retain(|(key, _), _| !matches!(key.usage, Use::Pod(_)));
        prop_assert_eq!(&of_devices, &bare.energy);
        for number in 0..3 {
            let registration = tenant(number).registration.unwrap();
            let used = |world: &World| {
                let usage = world.meter.usage(&registration, Timestamp(BEGIN));
                (usage.millijoules, usage.peak_watts)
            };
            prop_assert_eq!(used(&with), used(&without));
        }
        prop_assert_eq!(with.meter.check(), Ok(()));

        // What they operated and requested is within its bounds, and each is closed once.
        let closed: Vec<Name> = node_entries(&with.durable)
            .flat_map(|entry| &entry.closed)
            .map(|closed| closed.lease.uid.clone())
            .collect();
        for light in with.lights.iter().filter(|light| !light.lost) {
            let times = closed.iter().filter(|uid| **uid == light.uid).count();
            prop_assert_eq!(times, 1, "{:?}", light);
        }
        for number in 0..5 {
            let of = tenant(number);
            let mut sum = Operated::default();
            for ((_, account), operated) in &books.operated {
                if *account == of {
                    sum.pod_ms.add(operated.pod_ms);
                    sum.millicore_ms.add(operated.millicore_ms);
                }
            }
            let lights = with.lights.iter().filter(|one| one.account == of && !one.lost);
            let light_ms: u64 = lights.clone().map(|one| one.ended.unwrap() - one.bound).sum();
            let pods = with.pods.iter().filter(|pod| pod.tenant == number && !pod.lost);
            let pod_ms: u64 = pods.map(|pod| pod.ended.unwrap() - pod.bound).sum();
            let ms = light_ms + pod_ms;
            let bounds = sum.pod_ms.lower()..=sum.pod_ms.upper();
            prop_assert!(bounds.contains(&ms), "{number}: {ms} of {bounds:?}");
            let millicore_ms: u128 = lights.map(|one| one.true_millicore_ms).sum();
            let most = sum.millicore_ms.value + sum.millicore_ms.above;
            let bounds = sum.millicore_ms.lower()..=most;
            prop_assert!(bounds.contains(&millicore_ms), "{number}: {millicore_ms} of {bounds:?}");
            // What is declared is booked at its value, and counts in the limit.
            let declared = books.energy_where(|key, _| key.usage == Use::Pod(of.clone()));
            if number > 2 {
                prop_assert!(declared.upper() / 40 >= ms, "{declared:?} of {ms} ms");
                let used = with.meter.counts().since(&of.registration.unwrap(), Timestamp(BEGIN));
                // A snapshot forgets what no period counts, and these have none.
                if with.snapshot_at == 0 {
                    prop_assert_eq!(used, declared.upper());
                }
            } else {
                prop_assert_eq!(declared.upper(), 0);
            }
        }

        let restored =
            Meter::restore(config(refresh), with.durable[with.snapshot_at..].iter().cloned());
        prop_assert_eq!(restored.unwrap().books(), books);
    }
}
