//! For compliance officers and auditors: whether the books close, what is not measured, and what
//! is not on the positive list.

use crate::model::{
    BAD_ABOVE_ZERO, Dashboard, EMERGENCY_STOP, Panel, graph, row, stat, table, variable,
};

/// Seconds after which something counts as late, and as missing.
const AGE: &[(Option<f64>, &str)] =
    &[(None, "green"), (Some(120.0), "orange"), (Some(300.0), "red")];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "daylight-audit",
        title: "Daylight / Audit",
        description: "Whether the books close and the journal is written, what is not measured, \
                      and what is not on the positive list or not registered.",
        variables: vec![
            variable("pool", "Pool", "label_values(daylight_pool_gpus, pool)", true),
            variable(
                "namespace",
                "Namespace",
                "label_values(daylight_registration_info, namespace)",
                true,
            ),
        ],
        links: vec![],
        rows: vec![
            row("Now", 4, now()),
            row("Needs attention", 8, attention()),
            row("Registrations", 8, registrations()),
            row("Energy and time since the journal began", 8, since_the_journal_began()),
            row("Meter", 8, meter()),
            row("Journal", 8, journal()),
        ],
    }
}

fn now() -> Vec<Panel> {
    vec![
        stat(
            "Books",
            "Whether time and energy of each pool add up: to the millisecond and the millijoule. \
             If not, that is a defect of Daylight.",
            "short",
            4,
            "min(daylight_books_closed)",
        )
        .texts(&[(0, "Do not close"), (1, "Close")])
        .thresholds(&[(None, "red"), (Some(1.0), "green")])
        .none("No auditor"),
        stat(
            "Booked",
            "Age of the books: time since the moment up to which all device time is booked.",
            "s",
            4,
            "time() - max(daylight_booked_until_timestamp_seconds)",
        )
        .thresholds(&[(None, "green"), (Some(60.0), "orange"), (Some(300.0), "red")])
        .none("No auditor"),
        stat(
            "Undeclared",
            "GPUs held by pods that declare no activity class.",
            "short",
            4,
            r#"sum(daylight_pool_gpus{pool=~"$pool", state="undeclared"})"#,
        )
        .thresholds(BAD_ABOVE_ZERO),
        stat(
            "Unlisted",
            "GPUs held by pods whose class does not exist or is prohibited, as the auditor sees \
             it.",
            "short",
            4,
            r#"sum(daylight_unlisted_gpus{pool=~"$pool"}) or vector(0)"#,
        )
        .thresholds(BAD_ABOVE_ZERO),
        stat(
            "Unregistered",
            "GPUs held by pods whose registration is missing or not in force, as the auditor \
             itself verifies. For as long as a drain after an edit or an end that is normal.",
            "short",
            4,
            r#"sum(daylight_unregistered_gpus{pool=~"$pool"}) or vector(0)"#,
        )
        .thresholds(BAD_ABOVE_ZERO),
        stat(
            "Not read",
            "GPUs whose energy is not read though an exporter is set. The pool's condition \
             Metered names a node and the cause.",
            "short",
            4,
            r#"sum(daylight_unread_gpus{pool=~"$pool"})"#,
        )
        .thresholds(BAD_ABOVE_ZERO)
        .none("No exporter"),
        stat(
            "Emergency stop",
            "Whether an emergency stop is in force. Meanwhile nothing mines in any pool.",
            "short",
            4,
            EMERGENCY_STOP,
        )
        .texts(&[(0, "No"), (1, "In force")])
        .thresholds(BAD_ABOVE_ZERO)
        .none("No leader"),
        stat(
            "Admission",
            "What admission does with work other than miners' that is not allowed: the weakest of \
             its bindings. Only `Enforce` refuses it; `Off` was edited by hand. What miners may \
             do is always enforced.",
            "short",
            4,
            "max by (mode) (daylight_admission_mode == 1)",
        )
        .name_only("{{mode}}")
        .none("No policies")
        .colors(&[("Enforce", "green"), ("Warn", "blue"), ("Audit", "blue"), ("Off", "red")]),
        stat(
            "Policies altered",
            "Admission policies and bindings of another content than the chart gives them with \
             any values. `helm upgrade` restores them.",
            "short",
            4,
            r#"max(daylight_admission_policies{state="altered"})"#,
        )
        .thresholds(BAD_ABOVE_ZERO)
        .none("Not known"),
        stat(
            "Policies missing",
            "Admission policies and bindings of this version that do not exist. `helm upgrade` \
             restores them.",
            "short",
            4,
            r#"max(daylight_admission_policies{state="expected"}) - max(daylight_admission_policies{state="found"})"#,
        )
        .thresholds(BAD_ABOVE_ZERO)
        .none("Not known"),
        stat(
            "Nodes read late",
            "Nodes whose energy readings are late. The table below names them.",
            "short",
            4,
            r#"count(daylight_node_energy_metered_until_timestamp_seconds{pool=~"$pool"}) or 0 * max(daylight_books_closed)"#,
        )
        .thresholds(&[(None, "green"), (Some(1.0), "orange")])
        .none("No auditor"),
        stat(
            "Waiting for approval",
            "Registrations that wait for an approval, new ones and edited ones. The table below \
             names them.",
            "short",
            4,
            r#"count(daylight_registration_pending_since_timestamp_seconds{namespace=~"$namespace"}) or 0 * max(daylight_leader == 1)"#,
        )
        .thresholds(&[(None, "green"), (Some(1.0), "orange")])
        .none("No leader"),
    ]
}

fn attention() -> Vec<Panel> {
    vec![
        graph(
            "Not on the positive list, or not registered",
            "GPUs held by pods without an activity class, of a class that does not exist or is \
             prohibited, or of a registration that is not in force.",
            "short",
            8,
        )
        .line(
            r#"sum(daylight_pool_gpus{pool=~"$pool", state="undeclared"})"#,
            "undeclared",
        )
        .line(r#"sum(daylight_unlisted_gpus{pool=~"$pool"}) or vector(0)"#, "unlisted")
        .line(r#"sum(daylight_unregistered_gpus{pool=~"$pool"}) or vector(0)"#, "unregistered")
        .steps()
        .colors(&[("undeclared", "red"), ("unlisted", "dark-red"), ("unregistered", "orange")]),
        graph(
            "Not measured",
            "Devices whose energy is not read, and devices over whose time nothing that can be \
             believed was measured (gaps, as a mean over five minutes).",
            "short",
            8,
        )
        .line(r#"sum by (pool) (daylight_unread_gpus{pool=~"$pool"})"#, "{{pool}} not read")
        .line(
            r#"sum by (pool) (rate(daylight_meter_gap_seconds_total{pool=~"$pool"}[5m]))"#,
            "{{pool}} in gaps",
        ),
        graph(
            "Energy outside of leases",
            "Mean power of devices that no pod held: up to what an idle device draws, and \
             unexplained above it, which is what mining behind the scheduler's back would look \
             like.",
            "watt",
            8,
        )
        .line(
            r#"sum by (kind) (rate(daylight_unheld_energy_joules_total{pool=~"$pool"}[$__rate_interval]))"#,
            "{{kind}}",
        )
        .stacked()
        .colors(&[("idle", "green"), ("unexplained", "red")]),
        table(
            "Nodes whose energy is late",
            "Nodes whose readings are late, with the time since the moment up to which the energy \
             of their devices is booked, or since the first device joined that was never read.",
            "s",
            12,
        )
        .column(
            "Read",
            r#"time() - min by (pool, node) (daylight_node_energy_metered_until_timestamp_seconds{pool=~"$pool"})"#,
        )
        .colored("Read", AGE)
        .none("None")
        .order(&["pool", "node"]),
        table(
            "Registrations that wait for an approval",
            "Registrations with the time for which they have waited: a new one since its creation, \
             an edited one since it is not in force. A name leads to its dashboard.",
            "s",
            12,
        )
        .column(
            "Waits",
            r#"time() - min by (namespace, registration) (daylight_registration_pending_since_timestamp_seconds{namespace=~"$namespace"})"#,
        )
        .colored("Waits", &[(None, "text"), (Some(86_400.0), "orange"), (Some(259_200.0), "red")])
        .opens_registration("registration")
        .none("None")
        .order(&["namespace", "registration"]),
    ]
}

fn registrations() -> Vec<Panel> {
    vec![
        table(
            "Registrations",
            "Each registration with its state, and the age of its energy figures. Its name leads \
             to its dashboard.",
            "short",
            16,
        )
        .labels(
            r#"max by (namespace, registration, operator, class) (daylight_registration_info{namespace=~"$namespace"})"#,
        )
        .labels(
            r#"max by (namespace, registration, state) (daylight_registration_status{namespace=~"$namespace"} == 1)"#,
        )
        .column(
            "Ends in",
            r#"max by (namespace, registration) (daylight_registration_expiry_timestamp_seconds{namespace=~"$namespace"}) - time()"#,
        )
        .column(
            "GPUs",
            r#"sum by (namespace, registration) (daylight_assigned_gpus{namespace=~"$namespace", registration!=""})"#,
        )
        .column(
            "Over a limit",
            r#"max by (namespace, registration) (daylight_registration_over_limit{namespace=~"$namespace"})"#,
        )
        .column(
            "Energy read",
            r#"time() - max by (namespace, registration) (daylight_registration_metered_until_timestamp_seconds{namespace=~"$namespace"})"#,
        )
        .units(&[("Ends in", "s"), ("Energy read", "s")])
        .colored(
            "Ends in",
            &[(None, "red"), (Some(604_800.0), "orange"), (Some(2_592_000.0), "text")],
        )
        .colored("Over a limit", &[(None, "text"), (Some(1.0), "red")])
        .colored("Energy read", AGE)
        .opens_registration("registration")
        .order(&["namespace", "registration", "state", "operator", "class"]),
        graph(
            "Registrations by state",
            "Number of registrations in each state.",
            "short",
            8,
        )
        .line(
            r#"count by (state) (daylight_registration_status{namespace=~"$namespace"} == 1)"#,
            "{{state}}",
        )
        .stacked()
        .steps(),
    ]
}

fn since_the_journal_began() -> Vec<Panel> {
    let account = r#"pool=~"$pool", namespace=~"$namespace""#;
    let bound = |metric: &str, side: &str| {
        format!(r#"sum by (class) ({metric}{{{account}, side="{side}"}})"#)
    };
    let energy = "daylight_energy_error_bound_joules";
    let time = "daylight_time_error_bound_seconds";
    vec![
        table(
            "By class",
            "The exact totals of the books since the journal began, whatever range is selected, \
             with their bounds: the truth is at least the value less `below`, and at most the \
             value plus `above`. Each booking is in the journal (daylight ledger verify --print).",
            "short",
            16,
        )
        .column(
            "GPU-hours",
            &format!("sum by (class) (daylight_assigned_gpu_seconds_total{{{account}}}) / 3600"),
        )
        .column("h below", &format!("{} / 3600", bound(time, "below")))
        .column("h above", &format!("{} / 3600", bound(time, "above")))
        .column(
            "kWh",
            &format!("sum by (class) (daylight_gpu_energy_joules_total{{{account}}}) / 3.6e6"),
        )
        .column("kWh below", &format!("{} / 3.6e6", bound(energy, "below")))
        .column("kWh above", &format!("{} / 3.6e6", bound(energy, "above")))
        .decimals(3)
        .order(&["class"]),
        table(
            "Devices by use",
            "GPU-hours by use since the journal began: they add up to devices × time. Overcommitted \
             hours were held beyond the devices there are, as with time-slicing.",
            "short",
            8,
        )
        .column(
            "GPU-hours",
            r#"sum by (pool, use) (daylight_device_seconds_total{pool=~"$pool"}) / 3600 or label_replace(sum by (pool) (daylight_overcommitted_gpu_seconds_total{pool=~"$pool"}) / 3600, "use", "overcommitted", "", "")"#,
        )
        .decimals(3)
        .order(&["pool", "use"]),
    ]
}

fn meter() -> Vec<Panel> {
    vec![
        graph(
            "Power by class and method",
            "Mean power of the devices that pods held, by class and by the method by which the \
             energy was measured. GPU boards only.",
            "watt",
            8,
        )
        .line(
            r#"sum by (class, method) (rate(daylight_gpu_energy_joules_total{pool=~"$pool", namespace=~"$namespace"}[$__rate_interval]))"#,
            "{{class}}, {{method}}",
        )
        .stacked(),
        graph(
            "Age of the energy figures",
            "Time since the moment up to which the energy of all devices of a pool, or of all \
             leases of a registration, is booked. It rises between two readings of the exporter. \
             Above five minutes, energy limits stop mining.",
            "s",
            8,
        )
        .line(
            r#"time() - max by (pool) (daylight_energy_metered_until_timestamp_seconds{pool=~"$pool"})"#,
            "{{pool}}",
        )
        .line(
            r#"time() - max by (namespace, registration) (daylight_registration_metered_until_timestamp_seconds{namespace=~"$namespace"})"#,
            "{{namespace}}/{{registration}}",
        )
        .thresholds(AGE),
        graph(
            "Exporters",
            "Answers of exporters per second, and scrapes without one.",
            "short",
            4,
        )
        .line(
            "sum by (outcome) (rate(daylight_exporter_scrapes_total[$__rate_interval]))",
            "{{outcome}}",
        )
        .colors(&[("read", "green"), ("failed", "red")]),
        graph(
            "Nodes in the books",
            "Nodes by where their devices are known from: an exporter that names them, or only \
             the number that the node reports (`count`).",
            "short",
            4,
        )
        .line("sum by (by) (daylight_metered_nodes)", "{{by}}")
        .stacked()
        .steps(),
    ]
}

fn journal() -> Vec<Panel> {
    vec![
        stat(
            "Entries",
            "Entries in the journal. `daylight ledger verify` checks each of them.",
            "short",
            4,
            "max(daylight_audit_log_size)",
        )
        .decimals(0),
        stat(
            "Not yet written",
            "Entries that are not on disk yet. More than a few kilobytes for minutes means that \
             the volume is full, read-only or slow.",
            "bytes",
            4,
            "max(daylight_audit_log_unwritten_bytes)",
        )
        .thresholds(&[
            (None, "green"),
            (Some(1_048_576.0), "orange"),
            (Some(67_108_864.0), "red"),
        ]),
        graph("New entries", "Entries per minute by kind.", "cpm", 8)
            .line(
                "sum by (kind) (rate(daylight_audit_log_entries_total[$__rate_interval])) * 60",
                "{{kind}}",
            )
            .stacked(),
        stat(
            "Edits not observed",
            "Edits of specs that happened while the auditor did not watch, as jumps of the \
             generation show; found since the process began.",
            "short",
            4,
            "sum(daylight_unseen_edits_total) or vector(0)",
        )
        .thresholds(BAD_ABOVE_ZERO),
        stat(
            "LeaseRecords",
            "Ends of leases that the controller wrote to a LeaseRecord, since the auditor had not \
             recorded them within a minute; since the process began.",
            "short",
            4,
            "sum(daylight_lease_records_total)",
        )
        .thresholds(&[(None, "green"), (Some(1.0), "orange")]),
        stat(
            "Not signed",
            "Entries for which no signed checkpoint vouches yet. The auditor signs after each \
             batch: it is above 0 for moments only.",
            "short",
            4,
            "max(daylight_audit_log_size) - max(daylight_audit_log_signed_size)",
        )
        .decimals(0)
        .thresholds(&[(None, "green"), (Some(1.0), "orange"), (Some(1000.0), "red")]),
        stat(
            "Free",
            "Free space on the journal's volume. While it is full, entries wait in memory.",
            "bytes",
            4,
            "min(daylight_journal_free_bytes)",
        )
        .none("No auditor")
        .thresholds(&[(None, "red"), (Some(1e9), "orange"), (Some(5e9), "green")]),
        graph(
            "Size and signed size",
            "Entries in the journal, and those of them for which the signed checkpoint vouches.",
            "short",
            8,
        )
        .line("max(daylight_audit_log_size)", "entries")
        .line("max(daylight_audit_log_signed_size)", "signed")
        .colors(&[("entries", "text"), ("signed", "green")]),
        graph("Free space", "Free space on the journal's volume.", "bytes", 8)
            .line("min(daylight_journal_free_bytes)", "free"),
    ]
}
