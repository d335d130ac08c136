//! For everyone: who does AI, who mines, who does both, by owner and by site.

use crate::model::{Dashboard, Panel, graph, row, stat, table, variable};

/// The columns of declarations.
const COLUMNS: [&str; 3] = ["Compute", "Finance", "Mining"];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "daylight-who",
        title: "Daylight / Who does what",
        description: "Who does AI, who mines, who does both: work with GPUs and without, by owner and \
                      by site, in the columns of declarations.",
        variables: vec![
            variable("site", "Site", "label_values(daylight_work_pods, site)", true),
            variable("owner", "Owner", "label_values(daylight_work_pods, owner)", true),
        ],
        links: vec![],
        rows: vec![
            row("Now", 4, now()),
            row("By owner", 9, vec![running("owner"), booked("owner")]),
            row("By site", 7, vec![running("site"), booked("site")]),
            row("Over time", 8, over_time()),
        ],
    }
}

const CHOSEN: &str = r#"site=~"$site", owner=~"$owner""#;

fn now() -> Vec<Panel> {
    let mut panels: Vec<Panel> = COLUMNS
        .iter()
        .map(|column| {
            let (title, what) = match *column {
                "Compute" => ("Compute", "AI and other computing for others"),
                "Finance" => ("Finance", "work under financial regulation, such as validators"),
                _ => ("Mining", "mining of all kinds"),
            };
            stat(
                title,
                &format!(
                    "Pods that run in this column: {what}. Work of several columns counts in each."
                ),
                "short",
                6,
                &format!(r#"sum(daylight_work_pods{{{CHOSEN}, column="{column}"}}) or vector(0)"#),
            )
        })
        .collect();
    panels.push(stat(
        "Dual use",
        "Pods whose class counts in several columns: they compute and mine at the same time.",
        "short",
        6,
        &format!(
            "sum(max by (owner, site, class) (daylight_work_pods{{{CHOSEN}}}) \
             and on (class) (count by (class) (daylight_activity_class_column) > 1)) or vector(0)"
        ),
    ));
    panels
}

/// What runs now, by `label`.
fn running(label: &str) -> Panel {
    let title = if label == "owner" { "Running, by owner" } else { "Running, by site" };
    let description = "GPUs held and CPUs requested now, in each column. An owner is the operator of a \
                       registration, or a namespace whose work is not registered. Work of several \
                       columns counts in each of them, and in Dual use.";
    let mut panel = table(title, description, "short", 12).decimals(1);
    let mut order = vec![label.to_owned()];
    let mut letter = b'A';
    for column in COLUMNS {
        for (figure, metric) in [("GPUs", "daylight_work_gpus"), ("CPU", "daylight_work_cpu_cores")]
        {
            let query = format!(r#"sum by ({label}) ({metric}{{{CHOSEN}, column="{column}"}})"#);
            panel = panel.column(&format!("{column} {figure}"), &query);
            order.push(format!("Value #{}", char::from(letter)));
            letter += 1;
        }
    }
    let dual = format!(
        "sum by ({label}) (max by (owner, site, class) (daylight_work_gpus{{{CHOSEN}}}) \
         and on (class) (count by (class) (daylight_activity_class_column) > 1))"
    );
    panel = panel.column("Dual use GPUs", &dual);
    order.push(format!("Value #{}", char::from(letter)));
    let order: Vec<_> = order.iter().map(String::as_str).collect();
    panel.order(&order)
}

/// What the auditor has booked since its journal began, by `label`.
fn booked(label: &str) -> Panel {
    let title = if label == "owner" { "Booked, by owner" } else { "Booked, by site" };
    let description = "Energy and the time in which pods ran, added up over pods, since the journal has \
                       it, in each column. Energy of boards, or as declared or attributed for pods \
                       without GPUs.";
    let mut panel = table(title, description, "kwatth", 12).decimals(1);
    let mut order = vec![label.to_owned()];
    let mut letter = b'A';
    for column in COLUMNS {
        let class = format!(
            r#"on (class) group_left () daylight_activity_class_column{{column="{column}"}}"#
        );
        let account = "namespace, registration, class, pool";
        // Of pods with GPUs and without: an account may have both, with the same method.
        let energy = format!(
            r#"sum by ({account}) (daylight_gpu_energy_joules_total or label_replace(daylight_pod_energy_joules_total, "of", "pods", "", ""))"#
        );
        let energy = format!("{energy} * {class} / 3.6e6");
        let operating =
            format!("sum by ({account}) (daylight_operating_pod_seconds_total) * {class}");
        for (figure, query) in [("kWh", by(label, &energy)), ("time", by(label, &operating))] {
            let name = format!("{column} {figure}");
            panel = panel.column(&name, &query);
            if figure == "time" {
                panel = panel.units(&[(&name, "s")]);
            }
            order.push(format!("Value #{}", char::from(letter)));
            letter += 1;
        }
    }
    let order: Vec<_> = order.iter().map(String::as_str).collect();
    panel.order(&order)
}

/// Adds series of registrations and namespaces up by owner or site. What is not registered has the
/// namespace for its owner, and the site of its pool.
fn by(label: &str, series: &str) -> String {
    let info = "on (namespace, registration)";
    let (of_registration, of_others) = match label {
        "owner" => (
            "operator",
            format!(
                r#"label_replace(({series}) unless {info} daylight_registration_info, "owner", "namespace $1", "namespace", "(.+)")"#
            ),
        ),
        _ => (
            "site",
            format!(
                "(({series}) unless {info} daylight_registration_info) * on (pool) group_left (site) daylight_pool_info"
            ),
        ),
    };
    let registered =
        format!("({series}) * {info} group_left ({of_registration}) daylight_registration_info");
    let registered = match label {
        "owner" => format!(r#"label_replace({registered}, "owner", "$1", "operator", "(.+)")"#),
        _ => registered,
    };
    format!("sum by ({label}) ({registered} or {of_others})")
}

fn over_time() -> Vec<Panel> {
    let each = |figure: &str, title: &str, description: &str| {
        let query = format!("sum by (column) ({figure}{{{CHOSEN}}})");
        graph(title, description, "short", 12).line(&query, "{{column}}").steps().colors(&[
            ("Compute", "blue"),
            ("Finance", "purple"),
            ("Mining", "orange"),
        ])
    };
    vec![
        each(
            "daylight_work_gpus",
            "GPUs by column",
            "GPUs held in each column. Work of several columns counts in each of them.",
        ),
        each(
            "daylight_work_pods",
            "Pods by column",
            "Pods that run in each column, with GPUs and without.",
        ),
    ]
}
