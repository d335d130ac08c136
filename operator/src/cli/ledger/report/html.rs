//! A report as one HTML page, which needs no other file, no script and no network.
//!
//! Names in it may be chosen by tenants: all text goes through [`Escaped`].

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daylight_base::Timestamp;
use daylight_meter::{OperatedEntry, SignatureRule, WorkEntry};
use sha2::{Digest as _, Sha256};

use super::chart::chart;
use super::content::{RegisterChange, Report, class_of, classes};
use crate::reporting::numbers::{bounded, decimal, hours, kwh};

/// Gaps that are listed one by one.
const MOST: usize = 100;

const STYLE: &str = include_str!("style.css");

/// Text in HTML, within an element or a quoted attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Direction marks and the like would show a name as another one.
                '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {
                    write!(f, "\\u{{{:x}}}", u32::from(letter))?;
                }
                letter if letter.is_control() && letter != '\n' => f.write_char('\u{fffd}')?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Returns the page.
pub(super) fn html(report: &Report) -> String {
    let title = format!("Report of {} in {}", report.title(), report.subject.period);
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{}</h1>\n",
        Escaped(&title),
        Escaped(&title),
    );
    for section in [
        facts(report),
        figures(report),
        charts(report),
        operated(report),
        work(report),
        limit(report),
        gaps(report),
        complete(report),
        register(report),
        filings(report),
        admission(report),
        fields(report),
        recipe(report),
    ] {
        page += &section;
    }
    page + "</main>\n</body>\n</html>\n"
}

/// Cell of a table.
enum Cell {
    Text(String),
    Number(String),
}

fn text(text: &(impl ToString + ?Sized)) -> Cell {
    Cell::Text(text.to_string())
}

fn number(number: &(impl ToString + ?Sized)) -> Cell {
    Cell::Number(number.to_string())
}

/// A value and its bounds as two cells.
fn with_bounds([value, lower, upper]: [String; 3]) -> [Cell; 2] {
    let range = if value == lower && value == upper {
        "exact".to_owned()
    } else {
        format!("{lower} – {upper}")
    };
    [Cell::Number(value), Cell::Number(range)]
}

fn heading(id: &str, title: &str) -> String {
    format!("<h2 id=\"{id}\">{}</h2>\n", Escaped(title))
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", Escaped(text))
}

/// A table whose first column names the rows.
fn table(caption: &str, heads: &[&str], rows: Vec<Vec<Cell>>) -> String {
    let mut table = format!(
        "<div class=\"wide\"><table>\n<caption>{}</caption>\n<thead><tr>",
        Escaped(caption)
    );
    for (at, head) in heads.iter().enumerate() {
        let is_number =
            rows.first().is_some_and(|row| matches!(row.get(at), Some(Cell::Number(_))));
        let class = if is_number { " class=\"n\"" } else { "" };
        let _ = write!(table, "<th scope=\"col\"{class}>{}</th>", Escaped(head));
    }
    table += "</tr></thead>\n<tbody>\n";
    for row in rows {
        table += "<tr>";
        for (at, cell) in row.into_iter().enumerate() {
            let _ = match (at, &cell) {
                (0, Cell::Text(text) | Cell::Number(text)) => {
                    write!(table, "<th scope=\"row\">{}</th>", Escaped(text))
                }
                (_, Cell::Text(text)) => write!(table, "<td>{}</td>", Escaped(text)),
                (_, Cell::Number(text)) => write!(table, "<td class=\"n\">{}</td>", Escaped(text)),
            };
        }
        table += "</tr>\n";
    }
    table + "</tbody>\n</table></div>\n"
}

fn facts(report: &Report) -> String {
    let interval = report.totals.interval;
    let zone = &report.subject.time_zone;
    let mut facts = vec![
        (
            "Period",
            format!(
                "{}, from {} to {}, the end excluded",
                report.subject.period, interval.start, interval.end
            ),
        ),
        ("Time zone", format!("{zone}, by the time zone database {}", report.tzdata)),
        ("Ledger", report.origin.clone()),
        ("Entries read", format!("{}, with the root hash {}", report.size, report.root)),
    ];
    match (&report.subject.registration, &report.subject.name) {
        (Some(pseudonym), Some(name)) => {
            facts.insert(0, ("Pseudonym in the ledger", pseudonym.to_string()));
            facts.insert(0, ("Registration", name.clone()));
        }
        (Some(pseudonym), None) => {
            facts.insert(0, ("Registration", format!("{pseudonym}, a pseudonym")));
        }
        (None, _) => facts
            .insert(0, ("Subject", "all work that the ledger has, and idle devices".to_owned())),
    }
    let last = &report.totals;
    if let (Some(first), Some(last)) = (last.first, last.last) {
        facts.push((
            "Entries that count",
            format!("{}, from {first} to {last}", report.totals.entries),
        ));
    }
    let facts = facts.iter().map(|(term, fact)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>\n", Escaped(term), Escaped(fact))
    });
    let facts: String = facts.collect();
    let [time, energy] = [bounded(report.device_ms(), hours), bounded(report.energy(false), kwh)];
    let tile = |[value, lower, upper]: &[String; 3], unit: &str| {
        format!(
            "<div class=\"tile\"><span class=\"big\">{value}</span> {unit}<br>\
             <span class=\"bounds\">between {lower} and {upper}</span></div>\n"
        )
    };
    format!(
        "<div class=\"tiles\">\n{}{}</div>\n<dl>\n{facts}</dl>\n{}",
        tile(&time, "GPU-hours of work"),
        tile(&energy, "kWh measured at the GPU boards"),
        paragraph(
            "Each figure is the sum of entries of a signed ledger. The truth lies between the two bounds, as far as \
             the auditor saw the cluster and its energy counters. Energy is that of GPU boards: hosts, network and \
             cooling are not in it."
        )
    )
}

fn figures(report: &Report) -> String {
    let totals = &report.totals;
    let time = totals.time.iter().map(|time| {
        let pool = time.key.pool.as_deref().unwrap_or("(no pool)");
        let [value, range] = with_bounds(bounded(time.ms, hours));
        vec![text(&class_of(&time.key.usage)), text(&pool), value, range]
    });
    let energy = totals.energy.iter().map(|energy| {
        let pool = energy.key.pool.as_deref().unwrap_or("(no pool)");
        let method: &str = energy.method.into();
        let [value, range] = with_bounds(bounded(energy.mj, kwh));
        vec![text(&class_of(&energy.key.usage)), text(&pool), text(&method), value, range]
    });
    let by_class = classes(totals).into_iter().map(|sum| {
        let [time, time_range] = with_bounds(bounded(sum.device_ms, hours));
        let [energy, energy_range] = with_bounds(bounded(sum.millijoules, kwh));
        vec![text(&sum.class), time, time_range, energy, energy_range]
    });
    let mut section = heading("figures", "GPU-time and energy");
    section += &table(
        "By class of work",
        &["Class", "GPU-hours", "bounds", "kWh", "bounds"],
        by_class.collect(),
    );
    if report.subject.registration.is_some() {
        section +=
            &table("GPU-time by pool", &["Class", "Pool", "GPU-hours", "bounds"], time.collect());
        section += &table(
            "Energy by pool and method",
            &["Class", "Pool", "Method", "kWh", "bounds"],
            energy.collect(),
        );
        section += &paragraph(
            "Methods: counter is the difference of a device's energy counter; power is computed from readings of \
             its power; shared is divided among several possible holders; declared is what the tenant stated, and \
             not measured; unexplained was drawn while no work held the device.",
        );
    }
    section += &match &totals.peak {
        Some(peak) => paragraph(&format!(
            "The highest mean power of one replica was {} W, in entry {}, which covers {} to {}.",
            peak.watts, peak.entry, peak.from, peak.until
        )),
        None => paragraph(
            "No mean power of a replica could be measured: it never had a device alone for long enough.",
        ),
    };
    section
}

fn charts(report: &Report) -> String {
    let mut section = heading("charts", "Day by day");
    let hour = 3_600_000.0;
    section +=
        &chart("time", "GPU-hours by class", "GPU-hours", &report.parts, |sum| sum.device_ms, hour);
    section +=
        &chart("energy", "Energy by class", "kWh", &report.parts, |sum| sum.millijoules, 3.6e9);
    let rows = report.parts.iter().flat_map(|part| {
        part.classes.iter().map(|sum| {
            let [time, time_range] = with_bounds(bounded(sum.device_ms, hours));
            let [energy, energy_range] = with_bounds(bounded(sum.millijoules, kwh));
            vec![text(&part.label), text(&sum.class), time, time_range, energy, energy_range]
        })
    });
    section
        + &table(
            "The same figures",
            &["Day", "Class", "GPU-hours", "bounds", "kWh", "bounds"],
            rows.collect(),
        )
}

fn operated(report: &Report) -> String {
    if report.totals.operated.is_empty() {
        return String::new();
    }
    let rows = report.totals.operated.iter().map(|OperatedEntry { pool, account, operated }| {
        let [pods, range] = with_bounds(bounded(operated.pod_ms, hours));
        vec![
            text(&account.class.as_deref().unwrap_or("undeclared")),
            text(&pool.as_deref().unwrap_or("(no pool)")),
            pods,
            range,
            number(&decimal(operated.millicore_ms.value, 3_600_000_000, 3)),
            number(&decimal(operated.memory_mib_ms.value, 3_600_000 * 1024, 3)),
            number(&decimal(operated.storage_mib_ms.value, 3_600_000 * 1024, 3)),
        ]
    });
    heading("operated", "Operating time")
        + &table(
            "Time that pods ran, and what they requested meanwhile",
            &[
                "Class",
                "Pool",
                "Pod-hours",
                "bounds",
                "CPU-hours",
                "GiB-hours of memory",
                "GiB-hours of storage",
            ],
            rows.collect(),
        )
}

fn work(report: &Report) -> String {
    let mut section = heading("work", "Work and leases");
    section +=
        &paragraph(&format!("{} leases of pods ended in the period.", report.totals.ended_leases));
    if report.totals.work.is_empty() {
        return section + &paragraph("None of them reported hashes or shares.");
    }
    let rows = report.totals.work.iter().map(|WorkEntry { account, work }| {
        vec![
            text(&account.class.as_deref().unwrap_or("undeclared")),
            text(&if work.seen { "seen by the agent" } else { "claimed by the miner" }),
            number(&work.hashes),
            number(&work.shares_accepted),
            number(&work.shares_rejected),
        ]
    });
    section
        + &table(
            "Work of the leases that ended",
            &["Class", "Evidence", "Hashes", "Shares accepted", "Shares rejected"],
            rows.collect(),
        )
}

fn limit(report: &Report) -> String {
    if report.subject.registration.is_none() {
        return String::new();
    }
    let limit = report.limit();
    let (measured, declared) = (report.energy(false), report.energy(true));
    let sum = measured.upper().saturating_add(declared.upper());
    let counted = limit.millijoules.saturating_sub(limit.booked_later);
    let booked = counted.saturating_add(limit.counted_earlier);
    let mut rows = vec![
        vec![text("Measured"), number(&kwh(measured.value))],
        vec![text("May have been more"), number(&kwh(measured.above))],
        vec![text("Declared, with its upper bound"), number(&kwh(declared.upper()))],
        vec![text("Booked after the period, drawn in it"), number(&kwh(limit.booked_later))],
        vec![
            text("Booked in the period, drawn before it: subtracted"),
            number(&kwh(limit.counted_earlier)),
        ],
    ];
    if booked != sum {
        let sign = if booked > sum { "" } else { "−" };
        let difference = number(&format!("{sign}{}", kwh(booked.abs_diff(sum))));
        let why = "Other bounds: what unread devices can draw, and bounds that limits do not count";
        rows.push(vec![text(&why), difference]);
    }
    rows.push(vec![text("Counted by energy limits"), number(&kwh(limit.millijoules))]);
    heading("limit", "What an energy limit counts")
        + &paragraph(
            "A limit must never be passed, so it counts upper bounds, by the time at which energy may have been \
             drawn. That is why it differs from the measured energy:",
        )
        + &table("From the measured energy to that of limits", &["What", "kWh"], rows)
}

fn gaps(report: &Report) -> String {
    let mut section = heading("gaps", "Gaps");
    if report.gaps.is_empty() {
        let none =
            "No gap is recorded in the entries that count: nothing was unread, reset or unseen.";
        return section + &paragraph(none);
    }
    let sums = report.totals.gaps.iter().map(|sum| {
        let kind: &str = sum.kind.into();
        let seconds = decimal(sum.ms.into(), 1000, 3);
        vec![text(&kind), number(&sum.count), number(&seconds), number(&kwh(sum.millijoules))]
    });
    section += &paragraph(
        "A gap is a time in which something was not measured or not believed. Bounds are wider there. Gaps are those \
         of the nodes on which the work ran, and may concern other work on them.",
    );
    section += &table("By kind", &["Kind", "Number", "Seconds", "kWh in question"], sums.collect());
    let rows = report.gaps.iter().take(MOST).map(|listed| {
        let kind: &str = listed.gap.kind.into();
        vec![
            text(&listed.gap.between.earliest),
            text(&listed.gap.between.latest),
            text(&kind),
            text(&listed.node),
            text(&listed.gap.device.as_deref().unwrap_or("")),
            number(&listed.entry),
        ]
    });
    section +=
        &table("Each of them", &["From", "To", "Kind", "Node", "Device", "Entry"], rows.collect());
    if report.gaps.len() > MOST {
        let rest = report.gaps.len() - MOST;
        section += &paragraph(&format!("{rest} more are in report.csv and report.ndjson."));
    }
    section
}

fn complete(report: &Report) -> String {
    let totals = &report.totals;
    let mut section = heading("complete", "Is the period complete?");
    if totals.is_complete() {
        section += &paragraph("Yes: every node has reported up to the end of the period.");
    } else {
        let rows = totals.unreported.iter().map(|node| vec![text(&node.node), text(&node.until)]);
        section += &paragraph("No: these nodes have not reported up to its end. Figures may grow.");
        section += &table("Nodes", &["Node", "Reported up to"], rows.collect());
    }
    if !totals.straddling.is_empty() {
        let rows = totals.straddling.iter().map(|it| {
            vec![
                text(&it.entry),
                text(&it.from),
                text(&it.until),
                number(&hours(it.device_ms)),
                number(&kwh(it.millijoules)),
            ]
        });
        section += &paragraph(
            "These entries, of an earlier version, have time before the period and count whole:",
        );
        section += &table("Entries", &["Entry", "From", "To", "GPU-hours", "kWh"], rows.collect());
    }
    section
}

fn register(report: &Report) -> String {
    if report.subject.registration.is_none() {
        return String::new();
    }
    let mut section = heading("register", "The registration");
    if report.register.is_empty() {
        return section + &paragraph("The ledger has no entry of the registration itself.");
    }
    let rows = report.register.iter().map(|it| {
        let seen = &it.change.seen;
        let decision = seen.decision.as_ref();
        let decision =
            decision.map_or(String::new(), |it| format!("{} by {} at {}", it.state, it.by, it.at));
        let state = if it.change.gone { "deleted" } else { seen.standing.as_deref().unwrap_or("") };
        vec![
            text(&it.change.at),
            text(&state),
            text(&decision),
            text(&seen.digest),
            number(&it.change.unseen),
            number(&it.entry),
        ]
    });
    section += &paragraph(
        "The first line is the state at the beginning. The auditor verifies digests and signatures itself.",
    );
    section
        + &table(
            "Changes and decisions",
            &[
                "Observed",
                "State, as the auditor found it",
                "Decision",
                "Digest of what is registered",
                "Edits not observed",
                "Entry",
            ],
            rows.collect(),
        )
}

fn filings(report: &Report) -> String {
    let mut section = heading("filings", "Declarations that were filed");
    if report.filings.is_empty() {
        return section + &paragraph("The ledger has no filing of this period yet.");
    }
    let rows = report.filings.iter().filter_map(|RegisterChange { entry, change }| {
        let (declared, filed) = (change.seen.declares.as_ref()?, change.seen.decision.as_ref()?);
        let what = match declared.correction {
            0 => "declaration".to_owned(),
            number => format!("correction {number}"),
        };
        Some(vec![
            text(&what),
            text(&declared.registration),
            text(&filed.at),
            text(&filed.by),
            text(filed.reference.as_deref().unwrap_or("")),
            text(filed.digest.as_deref().unwrap_or("")),
            number(entry),
        ])
    });
    section += &paragraph(
        "Each was filed with the authority under its reference, by its figures at the root hash. A correction \
         supersedes what was filed before.",
    );
    section
        + &table(
            "Filings",
            &["What", "Registration", "Filed", "By", "Reference", "Root hash", "Entry"],
            rows.collect(),
        )
}

fn admission(report: &Report) -> String {
    let mut section = heading("admission", "Admission policy in force");
    if report.admission.is_empty() {
        section += &paragraph("The ledger does not have it for this period.");
    } else {
        let interval = report.totals.interval;
        let rows = report.admission.iter().map(|mode| {
            let within: Timestamp = mode.from.max(interval.start);
            let signature = match mode.signature {
                SignatureRule::Required => "required",
                SignatureRule::Optional => "optional",
            };
            vec![
                text(&mode.mode.as_deref().unwrap_or("not stated")),
                text(&within),
                text(&mode.until),
                number(&hours(mode.until.millis_since(within))),
                text(&signature),
                text(&if mode.stopped { "in force" } else { "none" }),
                number(&mode.entry),
            ]
        });
        section += &table(
            "Modes in the period",
            &["Mode", "From", "To", "Hours", "Authority's signature", "Emergency stop", "Entry"],
            rows.collect(),
        );
    }
    if report.policies.is_empty() {
        return section
            + &paragraph("No admission policy or binding was edited or deleted in the period.");
    }
    let rows = report.policies.iter().map(|it| {
        vec![
            text(&it.at),
            text(&it.kind),
            text(&it.name),
            text(&if it.gone { "deleted" } else { "created or edited" }),
            text(&it.digest),
            number(&it.entry),
        ]
    });
    section
        + &table(
            "Edits of policies",
            &["Observed", "Kind", "Name", "What", "Digest", "Entry"],
            rows.collect(),
        )
}

fn fields(report: &Report) -> String {
    let preset = report.subject.preset;
    let (known, unknown): (Vec<_>, Vec<_>) =
        preset.fields(report).into_iter().partition(|field| !field.value.is_empty());
    let rows = known.into_iter().map(|field| {
        let range = if field.lower.is_empty() {
            String::new()
        } else {
            format!("{} – {}", field.lower, field.upper)
        };
        vec![
            text(&field.name),
            text(&field.value),
            text(&range),
            text(&field.unit),
            text(&field.source),
        ]
    });
    let missing = unknown
        .into_iter()
        .map(|field| vec![text(&field.name), text(&field.unit), text(&field.source)]);
    heading("fields", "Fields of the authority's list")
        + &paragraph(preset.title())
        + &table(
            "Fields that the ledger has",
            &["Field", "Value", "Bounds", "Unit", "Source"],
            rows.collect(),
        )
        + &table(
            "Fields that Daylight cannot know",
            &["Field", "Unit", "Where to find it"],
            missing.collect(),
        )
}

fn recipe(report: &Report) -> String {
    let origin = &report.origin;
    format!(
        "{}{}<pre><code>{}</code></pre>\n{}{}",
        heading("verify", "How to verify this report"),
        paragraph(
            "On any computer with the program daylight, and without access to the cluster. The policy names the ledger's \
             public key, and the witnesses whose signatures must be there: take it from a place that you trust, not from \
             this directory.",
        ),
        Escaped(
            "daylight report verify DIRECTORY --policy POLICY\ndaylight report verify DIRECTORY LEDGER --policy POLICY"
        ),
        paragraph(&format!(
            "The first command verifies the files' hashes (manifest.json), the signatures of the checkpoint of {origin}, and \
             that each entry in report.ndjson is in the ledger. Then it computes every figure of all files again. The second one \
             reads a copy of the whole ledger, too: it finds entries that came later, and nodes that have not reported."
        )),
        paragraph(
            "Entries, proofs and signatures have published forms: RFC 6962, C2SP tlog-tiles, tlog-checkpoint, signed-note and \
             tlog-policy. No signature shows that an entry was true when it was written: the auditor records what the cluster and \
             its energy counters showed.",
        ),
    )
}
