//! The figures of a report as comma-separated values, by RFC 4180.

use daylight_meter::{OperatedEntry, WorkEntry};

use super::content::{RegisterChange, Report, class_of};
use crate::reporting::numbers::{bounded, decimal, hours, kwh};

/// Returns the report's lines. Each has a quantity with its unit and bounds, so that no line needs
/// another to be read.
pub(super) fn csv(report: &Report) -> String {
    let mut rows = vec![line(&[
        "section", "time", "pool", "class", "quantity", "method", "unit", "value", "lower",
        "upper", "source",
    ])];
    let totals = &report.totals;
    let period = report.subject.period.to_string();
    let mut row = |section: &str,
                   [time, pool, class]: [&str; 3],
                   [quantity, method, unit]: [&str; 3],
                   [value, lower, upper]: [String; 3],
                   source: &str| {
        rows.push(line(&[
            section, time, pool, class, quantity, method, unit, &value, &lower, &upper, source,
        ]));
    };
    let one = |value: String| [value, String::new(), String::new()];
    for field in report.subject.preset.fields(report) {
        let values = [field.value, field.lower, field.upper];
        row("field", [&period, "", ""], [field.name, "", field.unit], values, field.source);
    }
    for time in &totals.time {
        let (pool, class) = (time.key.pool.as_deref().unwrap_or(""), class_of(&time.key.usage));
        let at = [&*period, pool, class];
        row("total", at, ["GPU-time", "", "GPU-hours"], bounded(time.ms, hours), "entries: time");
    }
    for energy in &totals.energy {
        let pool = energy.key.pool.as_deref().unwrap_or("");
        let at = [&*period, pool, class_of(&energy.key.usage)];
        let what = ["energy", energy.method.into(), "kWh"];
        row("total", at, what, bounded(energy.mj, kwh), "entries: energy");
    }
    for OperatedEntry { pool, account, operated } in &totals.operated {
        let class = account.class.as_deref().unwrap_or("undeclared");
        let at = [&*period, pool.as_deref().unwrap_or(""), class];
        let source = "entries: operated";
        let pods = bounded(operated.pod_ms, hours);
        row("total", at, ["operating time", "", "pod-hours"], pods, source);
        for (quantity, unit, amount, per) in [
            ("CPU requested", "CPU-hours", operated.millicore_ms, 3_600_000_000),
            ("memory requested", "MiB-hours", operated.memory_mib_ms, 3_600_000),
            ("storage claimed", "MiB-hours", operated.storage_mib_ms, 3_600_000),
        ] {
            if !amount.is_zero() {
                let upper = amount.value.saturating_add(amount.above);
                let texts = [amount.value, amount.lower(), upper].map(|it| decimal(it, per, 3));
                row("total", at, [quantity, "", unit], texts, source);
            }
        }
    }
    for WorkEntry { account, work } in &totals.work {
        let at = [&*period, "", account.class.as_deref().unwrap_or("undeclared")];
        let evidence = if work.seen { "seen" } else { "claimed" };
        for (quantity, amount) in [
            ("hashes", work.hashes),
            ("shares accepted", work.shares_accepted),
            ("shares rejected", work.shares_rejected),
        ] {
            let value = one(amount.to_string());
            row("total", at, [quantity, evidence, "number"], value, "entries: closed");
        }
    }
    let at = [&*period, "", ""];
    let leases = one(totals.ended_leases.to_string());
    row("total", at, ["leases that ended", "", "number"], leases, "entries: closed");
    let limit = one(kwh(totals.limit.millijoules));
    row("total", at, ["energy that limits count", "", "kWh"], limit, "entries: used");
    for part in &report.parts {
        for sum in &part.classes {
            let at = [&*part.label, "", &*sum.class];
            let time = bounded(sum.device_ms, hours);
            row("part", at, ["GPU-time", "", "GPU-hours"], time, "entries: time");
            let energy = bounded(sum.millijoules, kwh);
            row("part", at, ["energy", "", "kWh"], energy, "entries: energy");
        }
    }
    for listed in &report.gaps {
        let at = [&*listed.gap.between.earliest.to_string(), "", ""];
        let what = ["gap", listed.gap.kind.into(), "seconds"];
        let seconds = decimal(listed.gap.between.width().into(), 1000, 3);
        row(
            "gap",
            at,
            what,
            one(seconds),
            &format!("entry {}, node {}", listed.entry, listed.node),
        );
    }
    for RegisterChange { entry, change } in &report.filings {
        let (Some(declared), Some(filed)) = (&change.seen.declares, &change.seen.decision) else {
            continue;
        };
        let at = [&*filed.at.to_string(), "", ""];
        let what = match declared.correction {
            0 => "filed".to_owned(),
            number => format!("correction {number} filed"),
        };
        let reference = one(filed.reference.as_deref().unwrap_or_default().to_owned());
        let source = format!("entry {entry}, registration {}", declared.registration);
        row("filing", at, [&what, "", "reference"], reference, &source);
    }
    for node in &totals.unreported {
        let at = [&*node.until.to_string(), "", ""];
        let what = ["node has reported up to here", "", ""];
        row("missing", at, what, one(String::new()), &node.node);
    }
    rows.concat()
}

fn line(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    cells.join(",") + "\r\n"
}

/// A spreadsheet would compute what begins like a formula.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_and_is_no_formula() {
        assert_eq!(line(&["a", "b,c", "d\"e", ""]), "a,\"b,c\",\"d\"\"e\",\r\n");
        assert_eq!(line(&["=1+1", "@x", "-2", "1-2"]), "'=1+1,'@x,'-2,1-2\r\n");
    }
}
