//! Who does AI, who mines, who does both: all work by owner and by site, in the columns of declarations.
//!
//! What runs is read from the cluster, also where it requests no GPU. Energy and operating time are in
//! the auditor's books alone, and are left out where its metrics cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use daylight_base::Name;
use daylight_cluster::names::key;
use daylight_exposition::{Sample, samples};
use serde::Serialize;

use crate::cli::table::table;
use crate::view::{Running, View, Work, report_columns};

/// The site of work that runs on no pool's node and is not registered.
const NO_SITE: &str = "(no site)";

/// The auditor's metrics of energy, of GPUs and of pods without, and of operating time.
const GPU_ENERGY: &str = "daylight_gpu_energy_joules_total";
const POD_ENERGY: &str = "daylight_pod_energy_joules_total";
const OPERATING: &str = "daylight_operating_pod_seconds_total";

/// The table of who does what.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct WhoDoesWhat {
    owners: Vec<Line>,
    sites: Vec<Line>,
    /// The classes whose work is counted in more than one column.
    dual_use: BTreeSet<Name>,
    /// Why energy and operating time are not known, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_metered: Option<String>,
}

/// What one owner does, or what is done at one site.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// The operator of a registration, or the namespace of work that is not registered.
    name: String,
    compute: Figures,
    finance: Figures,
    mining: Figures,
}

/// The work in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    pods: u64,
    gpus: u64,
    /// Requested, in thousandths of a CPU.
    cpu_milli: u64,
    /// Booked since the journal began.
    #[serde(skip_serializing_if = "Option::is_none")]
    joules: Option<u64>,
    /// Time in which pods ran, added up over pods, since the journal has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    operating_seconds: Option<u64>,
    /// A part of it is counted in another column, too.
    dual_use: bool,
}

impl Figures {
    fn add(&mut self, more: &Self) {
        let Self { pods, gpus, cpu_milli, joules, operating_seconds, dual_use } = more;
        self.pods += pods;
        self.gpus += gpus;
        self.cpu_milli += cpu_milli;
        for (sum, more) in
            [(&mut self.joules, joules), (&mut self.operating_seconds, operating_seconds)]
        {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or_default() + more);
            }
        }
        self.dual_use |= dual_use;
    }

    fn is_nothing(&self) -> bool {
        let Self { pods, gpus: _, cpu_milli: _, joules, operating_seconds, dual_use: _ } = self;
        *pods == 0 && joules.unwrap_or_default() == 0 && operating_seconds.unwrap_or_default() == 0
    }

    /// A text such as `4 GPUs, 8 CPU, 31.2 kWh, 12.5 h`; a dash if there is nothing.
    fn text(&self) -> String {
        if self.is_nothing() {
            return "-".into();
        }
        let mut parts = Vec::new();
        if self.gpus > 0 {
            parts.push(format!("{} GPU{}", self.gpus, if self.gpus == 1 { "" } else { "s" }));
        }
        if self.pods > 0 {
            parts.push(format!("{} CPU", tenths(self.cpu_milli, 1000)));
        }
        if let Some(joules) = self.joules {
            parts.push(format!("{} kWh", tenths(joules, 3_600_000)));
        }
        if let Some(seconds) = self.operating_seconds {
            parts.push(format!("{} h", tenths(seconds, 3600)));
        }
        let mark = if self.dual_use { " *" } else { "" };
        format!("{}{mark}", parts.join(", "))
    }
}

/// A number of units with one decimal digit, if it is not whole.
fn tenths(amount: u64, unit: u64) -> String {
    let tenths = (amount.saturating_mul(10) + unit / 2) / unit;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

/// Work of one owner, of one class, at one site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    owner: String,
    site: String,
    class: Name,
}

/// Adds up who does what. `metrics` is what the auditor serves, or why it cannot be read.
pub(super) fn who_does_what(view: &View, metrics: Result<&str, String>) -> WhoDoesWhat {
    let mut work: BTreeMap<Account, Figures> = BTreeMap::new();
    for (of, Running { pods, gpus, cpu_milli }) in view.work() {
        let Work { class, registration, namespace, pool } = of;
        let (registration, pool) = (registration.as_deref(), pool.as_deref());
        let account = Account {
            owner: view.owner_of(namespace, registration),
            site: view.site_of(registration, pool).unwrap_or_else(|| NO_SITE.into()),
            class: class.clone(),
        };
        let figures = Figures { pods, gpus, cpu_milli, ..Figures::default() };
        work.entry(account).or_default().add(&figures);
    }
    let text = metrics.as_deref().unwrap_or_default();
    for sample in samples(text, |name| [GPU_ENERGY, POD_ENERGY, OPERATING].contains(&name)) {
        if let Some((account, figures)) = booked(view, &sample) {
            work.entry(account).or_default().add(&figures);
        }
    }
    let mut who = WhoDoesWhat { not_metered: metrics.err(), ..WhoDoesWhat::default() };
    let (mut owners, mut sites) = (BTreeMap::new(), BTreeMap::new());
    for (account, figures) in &work {
        let Some(class) = view.cluster().class(&account.class) else { continue };
        let columns = report_columns(&class.spec);
        let figures = Figures { dual_use: columns.len() > 1, ..*figures };
        if figures.is_nothing() || columns.is_empty() {
            continue;
        }
        if figures.dual_use {
            who.dual_use.insert(account.class.clone());
        }
        for (lines, name) in [(&mut owners, &account.owner), (&mut sites, &account.site)] {
            let line: &mut [Figures; 3] = lines.entry(name.clone()).or_default();
            for column in &columns {
                line[*column as usize].add(&figures);
            }
        }
    }
    let lines = |all: BTreeMap<String, [Figures; 3]>| {
        let line = |(name, [compute, finance, mining]): (String, [Figures; 3])| Line {
            name,
            compute,
            finance,
            mining,
        };
        all.into_iter().map(line).collect()
    };
    (who.owners, who.sites) = (lines(owners), lines(sites));
    who
}

/// What the auditor has booked in one series; `None` for what is not on the positive list.
fn booked(view: &View, sample: &Sample<'_>) -> Option<(Account, Figures)> {
    let cluster = view.cluster();
    let namespace = sample.label("namespace")?;
    let registration = sample.label("registration").map(|name| key(namespace, name));
    let registration = registration.as_deref();
    let class = match sample.label("class") {
        Some(class) => Name::from(class),
        None => Name::from(cluster.registration(registration?)?.spec.activity_class.as_str()),
    };
    if cluster.is_off_the_list(&class) {
        return None;
    }
    let site = view.site_of(registration, sample.label("pool"));
    let account = Account {
        owner: view.owner_of(namespace, registration),
        site: site.unwrap_or_else(|| NO_SITE.into()),
        class,
    };
    let amount = Some(sample.value.max(0.0).round() as u64);
    let figures = match sample.name {
        OPERATING => Figures { operating_seconds: amount, ..Figures::default() },
        _ => Figures { joules: amount, ..Figures::default() },
    };
    Some((account, figures))
}

/// Draws the table; empty if there is no work.
pub(super) fn draw(who: &WhoDoesWhat) -> String {
    let WhoDoesWhat { owners, sites, dual_use, not_metered } = who;
    if owners.is_empty() {
        return String::new();
    }
    let row = |line: &Line| {
        let Line { name, compute, finance, mining } = line;
        vec![name.clone(), compute.text(), finance.text(), mining.text()]
    };
    let rows: Vec<Vec<String>> = owners.iter().map(row).collect();
    let mut text = table(&["owner", "compute", "finance", "mining"], &rows);
    let rows: Vec<Vec<String>> = sites.iter().map(row).collect();
    text.push_str(&table(&["site", "compute", "finance", "mining"], &rows));
    if !dual_use.is_empty() {
        let classes: Vec<&str> = dual_use.iter().map(|class| &**class).collect();
        let _ = writeln!(text, "* Counted in several columns: {}.", classes.join(", "));
    }
    if let Some(why) = not_metered {
        let _ = writeln!(text, "kWh and hours are left out: {why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::view::tests::TestCluster;
    use crate::view::tests::test_cluster::{
        class, lease, miner, node, patched, pod, pool, registration, running,
    };

    fn work(name: &str, class: &str, registration: Option<&str>) -> Value {
        let mut labels = json!({"daylight.dev/activity": class});
        if let Some(registration) = registration {
            labels["daylight.dev/registration"] = json!(registration);
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "team", "uid": format!("pod-{name}"), "labels": labels,
            },
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]},
            "status": {"phase": "Pending"},
        });
        running(&pod, "n1")
    }

    fn site() -> TestCluster {
        let listed = |name: &str, category: &str, columns: Value| {
            let spec = json!({"category": category, "reportColumns": columns});
            patched(&class(name, "Guaranteed"), &json!({ "spec": spec }))
        };
        let of = |name: &str, class: &str, operator: &str| {
            let spec = json!({"activityClass": class, "operator": {"name": operator}});
            patched(&registration(name), &json!({ "spec": spec }))
        };
        let elsewhere = json!({"spec": {"site": "bergen", "pools": null, "limits": {"gpus": null, "replicas": 1}}});
        TestCluster::with(&[
            pool("a"),
            node("n1", "a"),
            patched(&class("pow", "IdleOnly"), &json!({"spec": {"reportColumns": ["Mining"]}})),
            listed("ai-training", "DataIndustry", json!([])),
            listed("useful", "Declared", json!(["Compute", "Mining"])),
            listed("validator", "FinancialRegulated", json!(["Finance"])),
            listed("banned", "Prohibited", json!([])),
            registration("reg"),
            patched(&of("validators", "validator", "Aurora AS"), &elsewhere),
            of("proofs", "useful", "Boreas AS"),
            miner("m"),
            running(&lease("m", "n1", 0), "n1"),
            running(&lease("m", "n1", 1), "n1"),
            running(&pod("train", 4), "n1"),
            // It waits, and another has ended.
            pod("waits", 4),
            patched(&work("over", "validator", None), &json!({"status": {"phase": "Failed"}})),
            work("v-0", "validator", Some("validators")),
            work("p-0", "useful", Some("proofs")),
            work("bad", "banned", None),
        ])
    }

    #[test]
    fn who_does_ai_who_mines_and_who_does_both() {
        let cluster = site();
        let metrics = "\
            daylight_gpu_energy_joules_total{pool=\"a\",class=\"pow\",registration=\"reg\",namespace=\"team\",method=\"counter\"} 3.6e+06\n\
            daylight_gpu_energy_joules_total{pool=\"a\",class=\"pow\",registration=\"reg\",namespace=\"team\",method=\"declared\"} 1.8e+06\n\
            daylight_gpu_energy_joules_total{pool=\"a\",class=\"ai-training\",registration=\"\",namespace=\"ml\",method=\"counter\"} 7.2e+06\n\
            daylight_gpu_energy_joules_total{pool=\"a\",class=\"unlisted\",registration=\"\",namespace=\"ml\",method=\"counter\"} 9e+09\n\
            daylight_pod_energy_joules_total{pool=\"a\",class=\"validator\",registration=\"validators\",namespace=\"team\",method=\"declared\"} 3.6e+05\n\
            daylight_operating_pod_seconds_total{pool=\"a\",class=\"validator\",registration=\"validators\",namespace=\"team\"} 5400\n";
        let who = who_does_what(&cluster.view, Ok(metrics));
        let text = draw(&who);
        let cells = |line: &str| {
            let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            cells.map(str::to_owned).collect::<Vec<_>>()
        };
        let rows: Vec<_> = text.lines().map(cells).collect();
        assert_eq!(
            rows,
            [
                vec!["OWNER", "COMPUTE", "FINANCE", "MINING"],
                vec!["Aurora AS", "-", "1.5 CPU, 0.1 kWh, 1.5 h", "2 GPUs, 2 CPU, 1.5 kWh"],
                vec!["Boreas AS", "1.5 CPU *", "-", "1.5 CPU *"],
                vec!["namespace ml", "4 GPUs, 4 CPU, 2 kWh", "-", "-"],
                vec!["SITE", "COMPUTE", "FINANCE", "MINING"],
                vec!["bergen", "-", "1.5 CPU, 0.1 kWh, 1.5 h", "-"],
                vec!["oslo", "4 GPUs, 5.5 CPU, 2 kWh *", "-", "2 GPUs, 3.5 CPU, 1.5 kWh *"],
                vec!["* Counted in several columns: useful."],
            ]
        );
        let json = serde_json::to_value(&who).unwrap();
        assert_eq!(json["dualUse"], json!(["useful"]));
        let owner = &json["owners"][0];
        assert_eq!(owner["name"], "Aurora AS");
        assert_eq!(
            owner["finance"],
            json!({"pods": 1, "gpus": 0, "cpuMilli": 1500, "joules": 360_000, "operatingSeconds": 5400, "dualUse": false})
        );
        assert_eq!(owner["mining"]["joules"], 5_400_000);
    }

    #[test]
    fn without_the_auditor_the_table_says_what_it_lacks() {
        let cluster = site();
        let who = who_does_what(&cluster.view, Err("no route.".into()));
        let text = draw(&who);
        assert!(text.ends_with("kWh and hours are left out: no route.\n"), "{text}");
        assert!(text.contains("4 GPUs, 4 CPU ") && !text.contains("kWh,"), "{text}");
        let none = TestCluster::with(&[pool("a")]);
        assert_eq!(draw(&who_does_what(&none.view, Err("no route.".into()))), "");
    }
}
