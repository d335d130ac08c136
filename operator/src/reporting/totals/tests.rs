use daylight_meter::{Config, Meter, Moment, ObservedLease, Requested, Use};
use proptest::prelude::*;

use super::*;
use crate::reporting::history::{History, MINUTE, Step, at, node, pseudonym_of, registration};

fn step() -> impl Strategy<Value = (i64, Step)> {
    let step = prop_oneof![
        2 => (0..3_usize, 0..3_u32, 0..3_usize)
            .prop_map(|(node, gpus, tenant)| Step::Begin { node, gpus, tenant }),
        2 => (0..6_usize).prop_map(|which| Step::End { which }),
        3 => Just(Step::Scrape),
    ];
    (1..10 * MINUTE, step)
}

fn total(mut totals: Totals, entries: &[Entry]) -> PeriodTotals {
    for (index, entry) in entries.iter().enumerate() {
        totals.add(index as u64, entry);
    }
    totals.finish()
}

fn interval(from: i64, until: i64) -> ReportingInterval {
    ReportingInterval { start: at(from), end: at(until) }
}

/// Sums that have to be the same in one period and in its parts.
fn sums(totals: &[PeriodTotals]) -> [u128; 9] {
    let sum = |of: &dyn Fn(&PeriodTotals) -> u128| totals.iter().map(of).sum();
    let operated = |of: &dyn Fn(&Operated) -> u128| {
        totals.iter().flat_map(|it| &it.operated).map(|it| of(&it.operated)).sum()
    };
    [
        sum(&|it| it.device_ms(|_| true).value.into()),
        sum(&|it| it.device_ms(|_| true).above.into()),
        sum(&|it| it.millijoules(|_, _| true).value.into()),
        sum(&|it| it.millijoules(|_, _| true).below.into()),
        operated(&|it| it.pod_ms.value.into()),
        operated(&|it| it.memory_mib_ms.value),
        sum(&|it| it.ended_leases.into()),
        sum(&|it| it.work.iter().map(|it| u128::from(it.work.hashes)).sum()),
        sum(&|it| it.entries.into()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn totals_of_consecutive_periods_add_up_and_are_those_of_all_registrations(
        steps in prop::collection::vec(step(), 1..60),
        cuts in prop::collection::btree_set(1..20_i64, 0..5),
    ) {
        let history = History::run(&steps);
        let ledger = history.ledger();
        let mut bounds = vec![-60];
        bounds.extend(cuts.iter().map(|cut| 15 * cut));
        bounds.push(60 * 24);
        let selected = |interval, which: Option<&Name>| match which {
            Some(name) => Totals::new(name.clone(), interval),
            None => Totals::of_all(interval),
        };
        let names: Vec<Name> = (0..3).map(registration).collect();
        let pseudonyms: Vec<Name> = names.iter().map(pseudonym_of).collect();
        for (name, entries) in pseudonyms.iter().map(|it| (Some(it), &ledger))
            .chain(names.iter().map(|it| (Some(it), &history.entries)))
            .chain([(None, &ledger), (None, &history.entries)])
        {
            let whole = total(selected(interval(-60, 60 * 24), name), entries);
            let parts: Vec<_> = bounds.windows(2)
                .map(|two| total(selected(interval(two[0], two[1]), name), entries))
                .collect();
            prop_assert_eq!(sums(&parts), sums(std::slice::from_ref(&whole)));
            prop_assert!(parts.iter().all(|part| part.straddling.is_empty()));
            let json = serde_json::to_string(&whole).unwrap();
            prop_assert_eq!(serde_json::from_str::<PeriodTotals>(&json).unwrap(), whole);
        }
        // The ledger's shared entries add up to the same.
        let whole = |name, entries| total(selected(interval(-60, 60 * 24), name), entries);
        let all = whole(None, &ledger);
        let mut booked = 0;
        for (name, pseudonym) in names.iter().zip(&pseudonyms) {
            let (one, other) = (whole(Some(name), &history.entries), whole(Some(pseudonym), &ledger));
            prop_assert_eq!(&sums(&[one])[..8], &sums(std::slice::from_ref(&other))[..8]);
            booked += other.device_ms(|_| true).value;
        }
        let capacity: u64 = all.pools.iter().map(|it| it.capacity_ms).sum();
        let idle = all.device_ms(|key| key.usage == Use::Idle).value;
        prop_assert_eq!(capacity, booked + idle);
        let moved: u64 = all.pools.iter().map(|it| it.moved_mj).sum();
        prop_assert_eq!(moved, all.millijoules(|_, method| method != Method::Declared).value);
    }
}

/// Two hours: `t0` has a device of `n0` from minute 5 to 40, and `t1` two of `n1` from 10 on.
fn two_hours() -> History {
    let begin = |node, gpus, tenant| Step::Begin { node, gpus, tenant };
    let mut steps = vec![(5 * MINUTE, begin(0, 1, 0)), (5 * MINUTE, begin(1, 2, 1))];
    steps.extend([(MINUTE, Step::Scrape); 30]);
    steps.push((0, Step::End { which: 0 }));
    steps.extend([(MINUTE, Step::Scrape); 80]);
    History::run(&steps)
}

#[test]
fn a_registration_has_its_figures_and_the_window_of_its_peak() {
    let history = two_hours();
    let ledger = history.ledger();
    let of = |tenant, from, until| {
        let totals = Totals::new(pseudonym_of(&registration(tenant)), interval(from, until));
        total(totals, &ledger)
    };
    let totals = of(0, 0, 60);
    assert_eq!(totals.device_ms(|_| true), Bounded::exactly(35 * 60_000));
    let energy = totals.millijoules(|_, _| true);
    let truth = 35 * 60 * 300_000;
    assert!(energy.lower() < truth && truth < energy.upper(), "{energy:?}");
    assert_eq!(totals.operated[0].operated.pod_ms, Bounded::exactly(35 * 60_000));
    assert_eq!(totals.ended_leases, 1);
    assert_eq!(totals.work[0].work.hashes, 1000);
    let (first, last) = (totals.first.unwrap(), totals.last.unwrap());
    assert!(first <= last && last < ledger.len() as u64);
    // Of two devices that it has alone.
    let peak = of(1, 60, 75).peak.unwrap();
    assert!(peak.watts > 500 && peak.watts <= 600, "{peak:?}");
    assert!(interval(60, 75).has_end(peak.until));
    let entry = &ledger[usize::try_from(peak.entry).unwrap()];
    assert!(
        matches!(entry, Entry::Nodes(entry) if entry.used.iter().any(|it| it.peak_watts == peak.watts))
    );
    // A limit counts upper bounds, and what a period of its own would have had.
    assert_eq!(totals.limit.millijoules, energy.value + energy.above);
    let quarters: u64 = (0..4).map(|it| of(0, 15 * it, 15 * it + 15).limit.millijoules).sum();
    assert_eq!(quarters, totals.limit.millijoules);
    assert_eq!(of(0, 60, 120).first, None);
    assert_eq!(of(1, 60, 75).device_ms(|_| true), Bounded::exactly(2 * 15 * 60_000));
}

#[test]
fn a_period_is_complete_once_every_node_has_reported_to_its_end() {
    let mut history = two_hours();
    let complete = |history: &History, until| {
        let ledger = total(Totals::of_all(interval(0, until)), &history.ledger());
        let state = total(Totals::of_all(interval(0, until)), &history.entries);
        assert_eq!(ledger.is_complete(), state.is_complete());
        assert_eq!(ledger.unreported, state.unreported);
        ledger.unreported
    };
    assert_eq!(complete(&history, 120), []);
    let late: Vec<Name> = complete(&history, 150).into_iter().map(|it| it.node).collect();
    assert_eq!(late, [node(0), node(1), node(2)]);
    // One is gone, two report.
    history.meter.node_gone(&node(2), history.now);
    history.now = at(151);
    history.take(Step::Scrape);
    history.flush();
    assert_eq!(complete(&history, 150), []);
    assert_eq!(complete(&history, 165).len(), 2, "the one that is gone is not waited for");
}

#[test]
fn a_node_without_devices_that_is_gone_is_not_waited_for() {
    let mut meter = Meter::new(Config::default());
    let lease = ObservedLease {
        uid: "uid".into(),
        pod: "team/validator".into(),
        node: "cpu".into(),
        gpus: 0,
        requested: Requested::default(),
        account: Account {
            class: Some("pos-validator".into()),
            registration: Some(registration(0)),
            namespace: "team".into(),
        },
        watts: 40,
        bound: Moment::exactly(at(0)),
        started: None,
        owed: false,
    };
    meter.lease(lease.clone(), at(0));
    meter.ended(lease, Moment::exactly(at(10)), None, at(10));
    meter.advance(at(20));
    meter.forget("uid");
    meter.node_gone(&"cpu".into(), at(21));
    meter.advance(at(30));
    let mut totals = Totals::of_all(interval(0, 60));
    for (index, mut entry) in meter.take_entries().into_iter().enumerate() {
        // As the ledger has it.
        if let Entry::Node(node) = &mut entry {
            node.state = None;
        }
        totals.add(index as u64, &entry);
    }
    let totals = totals.finish();
    assert_eq!(totals.operated[0].operated.pod_ms, Bounded::exactly(10 * 60_000));
    assert_eq!(totals.unreported, []);
}

#[test]
fn an_entry_of_an_earlier_version_that_has_time_of_two_periods_is_named() {
    let account = Account {
        class: Some("pow-mining".into()),
        registration: Some(registration(0)),
        namespace: "t0".into(),
    };
    let key = Key { pool: None, usage: Use::Lease(account) };
    let used = |start| UsedEntry {
        registration: registration(0),
        start: at(start),
        millijoules: 5,
        peak_watts: 0,
    };
    let entry = |from, until, start| {
        Entry::Node(Box::new(NodeEntry {
            node: node(0),
            from: at(from),
            until: at(until),
            time: vec![TimeEntry { key: key.clone(), ms: Bounded::exactly(7) }],
            used: vec![used(start)],
            ..NodeEntry::default()
        }))
    };
    let entries = [entry(50, 55, 0), entry(55, 65, 0), entry(65, 70, 60), entry(70, 130, 60)];
    let first = total(Totals::new(registration(0), interval(0, 60)), &entries);
    assert_eq!((first.device_ms(|_| true).value, first.straddling.len()), (7, 0));
    let limit = LimitCount { millijoules: 10, booked_later: 5, counted_earlier: 0 };
    assert_eq!(first.limit, limit);
    let second = total(Totals::new(registration(0), interval(60, 120)), &entries);
    let (from, until) = (at(55), at(65));
    let straddling = Straddling { entry: 1, from, until, device_ms: 7, millijoules: 0 };
    assert_eq!((second.device_ms(|_| true).value, second.straddling), (14, vec![straddling]));
    let limit = LimitCount { millijoules: 10, booked_later: 5, counted_earlier: 5 };
    assert_eq!(second.limit, limit);
}
