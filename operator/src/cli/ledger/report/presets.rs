//! Lists of fields that authorities have published, and what a ledger has for each.

use clap::ValueEnum;
use daylight_meter::Method;
use serde::{Deserialize, Serialize};

use super::content::{Report, class_of, classes};
use crate::reporting::numbers::{bounded, decimal, hours, kwh};

/// List of fields that an authority has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preset {
    /// What the lists of several authorities have in common
    #[default]
    Generic,
    /// Norway: register of data centre operators at Nkom
    NorwayNkom,
    /// Russia: report of an operator of mining infrastructure to the FNS
    RussiaFns,
    /// European Union: Delegated Regulation 2024/1364, data centres from 500 kW on
    #[value(name = "eu-2024-1364")]
    #[serde(rename = "eu-2024-1364")]
    Eu20241364,
    /// European Union: AI Act, Annex XI, training of general-purpose AI models
    EuAiAct,
}

/// Field of a list.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// Empty if Daylight cannot know it.
    pub(super) value: String,
    pub(super) lower: String,
    pub(super) upper: String,
    pub(super) unit: &'static str,
    /// Part of the entries that it is computed from, or where to find it.
    pub(super) source: &'static str,
}

impl Preset {
    /// Name and origin of the list.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Generic => "Common minimum of several authorities' lists",
            Self::NorwayNkom => {
                "Norway, Electronic Communications Act of 2024 and data centre regulation: register at Nkom"
            }
            Self::RussiaFns => {
                "Russia, Federal Law 259-FZ and order of the FNS in force since 30 July 2025: operators of mining infrastructure"
            }
            Self::Eu20241364 => "Delegated Regulation (EU) 2024/1364, Annexes I and II",
            Self::EuAiAct => {
                "Regulation (EU) 2024/1689 (AI Act), Annex XI, section 1, point 2 (d) and (e)"
            }
        }
    }

    /// The fields of the list with what a report has for each.
    pub(super) fn fields(self, report: &Report) -> Vec<Field> {
        match self {
            Self::Generic => generic(report),
            Self::NorwayNkom => norway(report),
            Self::RussiaFns => russia(report),
            Self::Eu20241364 => eu_data_centres(report),
            Self::EuAiAct => eu_ai_act(report),
        }
    }
}

/// A field that no entry has. `source` names where to find it.
fn unknown(name: &'static str, unit: &'static str, source: &'static str) -> Field {
    let empty = String::new;
    Field { name, value: empty(), lower: empty(), upper: empty(), unit, source }
}

fn known(
    name: &'static str,
    [value, lower, upper]: [String; 3],
    unit: &'static str,
    source: &'static str,
) -> Field {
    Field { name, value, lower, upper, unit, source }
}

fn exact(
    name: &'static str,
    value: &(impl ToString + ?Sized),
    unit: &'static str,
    source: &'static str,
) -> Field {
    known(name, [value.to_string(), String::new(), String::new()], unit, source)
}

const FILING: &str = "the operator's filing";
const METER: &str = "the site's electricity meter and contract";
const POOL: &str = "the mining pool's statements";

fn start(report: &Report) -> Field {
    exact(
        "Start of the period",
        &report.totals.interval.start,
        "UTC",
        "the period, in its time zone",
    )
}

fn end(report: &Report) -> Field {
    exact("End of the period", &report.totals.interval.end, "UTC, excluded", "the period")
}

fn registration(report: &Report) -> Field {
    exact("Registration", &report.title(), "", "entries: registration")
}

fn activities(report: &Report) -> Field {
    let classes: Vec<String> = classes(&report.totals).into_iter().map(|it| it.class).collect();
    exact("Activity classes", &classes.join(", "), "", "entries: class of each account")
}

fn measured(name: &'static str, report: &Report) -> Field {
    let energy = bounded(report.energy(false), kwh);
    known(name, energy, "kWh at the GPU boards", "entries: energy, all methods but declared")
}

fn declared(name: &'static str, report: &Report) -> Field {
    let energy = bounded(report.energy(true), kwh);
    known(name, energy, "kWh", "entries: energy, method declared")
}

fn gpu_hours(name: &'static str, report: &Report) -> Field {
    known(name, bounded(report.device_ms(), hours), "GPU-hours", "entries: time")
}

fn operating_hours(name: &'static str, report: &Report) -> Field {
    let operated = report.totals.operated.iter();
    let ms = operated.fold(0_u64, |sum, it| sum.saturating_add(it.operated.pod_ms.value));
    exact(name, &hours(ms), "pod-hours", "entries: operated")
}

fn peak(name: &'static str, report: &Report) -> Field {
    match &report.totals.peak {
        Some(peak) => {
            let kilowatts = decimal(peak.watts.into(), 1000, 3);
            exact(name, &kilowatts, "kW, highest mean of one replica", "entries: used, peakWatts")
        }
        None => unknown(name, "kW", "no mean power could be measured; see the site's meter"),
    }
}

fn work(name: &'static str, report: &Report, is_seen: bool) -> Field {
    let work = report.totals.work.iter().filter(|it| it.work.seen == is_seen);
    let hashes = work.fold(0_u64, |sum, it| sum.saturating_add(it.work.hashes));
    let unit = if is_seen { "hashes, seen by the agent" } else { "hashes, claimed by the miner" };
    exact(name, &hashes, unit, "entries: closed, facts of leases that ended in the period")
}

fn shares(name: &'static str, report: &Report) -> Field {
    let work = report.totals.work.iter();
    let shares = work.fold(0_u64, |sum, it| sum.saturating_add(it.work.shares_accepted));
    exact(
        name,
        &shares,
        "accepted shares",
        "entries: closed, facts of leases that ended in the period",
    )
}

fn generic(report: &Report) -> Vec<Field> {
    vec![
        unknown("Operator: name and number", "", FILING),
        unknown("Contact", "", FILING),
        unknown("Site and grid connection", "", FILING),
        registration(report),
        start(report),
        end(report),
        activities(report),
        gpu_hours("GPU-time", report),
        operating_hours("Operating time", report),
        measured("Energy, measured", report),
        declared("Energy, declared by the tenant", report),
        peak("Peak power", report),
        work("Work, seen", report, true),
        work("Work, claimed", report, false),
        shares("Shares", report),
        unknown("Electricity tariff", "", METER),
        unknown("Coin and amount received", "", POOL),
        unknown("Payout address", "", FILING),
        unknown("Energy of hosts, network and cooling", "kWh", METER),
        unknown("Corrections, with reason", "", FILING),
        unknown("Signature", "", "the person who files"),
    ]
}

fn norway(report: &Report) -> Vec<Field> {
    let (mut mining, mut all) = (0_u64, 0_u64);
    for energy in &report.totals.energy {
        if energy.method != Method::Declared {
            all = all.saturating_add(energy.mj.value);
            if class_of(&energy.key.usage).contains("mining") {
                mining = mining.saturating_add(energy.mj.value);
            }
        }
    }
    let name = "Share of power used for cryptocurrency";
    let share = if report.subject.registration.is_none() && all > 0 {
        let percent = decimal(u128::from(mining) * 100, all.into(), 1);
        exact(
            name,
            &percent,
            "% of the GPU boards' energy, classes with mining in their name",
            "entries: energy",
        )
    } else {
        unknown(name, "%", "a report of the whole site: leave out --registration")
    };
    vec![
        unknown("Operator's name", "", FILING),
        unknown("Organisation number, or legal form and register number", "", FILING),
        unknown("Address", "", FILING),
        unknown("Web address", "", FILING),
        unknown("Physical location of the data centres", "", FILING),
        unknown("Contact of a representative with authority", "", FILING),
        unknown("Description of the services", "", FILING),
        unknown("Public authorities among the customers", "", FILING),
        share,
        unknown("Subscribed electrical power", "MW", METER),
        unknown("Expected start of operation", "", FILING),
        measured("Of the energy: GPU boards", report),
    ]
}

fn russia(report: &Report) -> Vec<Field> {
    vec![
        unknown("Client: name, INN, OGRN or OGRNIP, of a person the passport", "", FILING),
        registration(report),
        start(report),
        end(report),
        unknown("Electricity tariff of the client", "", METER),
        measured("Electricity used, of which GPU boards", report),
        declared("Electricity used, declared by the client", report),
        unknown(
            "Equipment: manufacturer, model, serial number",
            "",
            "the operator's inventory; entries have the devices' UUIDs",
        ),
        unknown("Method of mining (algorithm)", "", "the Miner object and its engine"),
        work("Computing work, seen", report, true),
        work("Computing work, claimed", report, false),
        peak("Power of the equipment", report),
        operating_hours("Hours of operation", report),
        unknown("Cryptocurrency and amount", "", POOL),
        unknown("Address to which it is credited", "", FILING),
        unknown("Mining pool, and link to observe the equipment", "", POOL),
    ]
}

fn eu_data_centres(report: &Report) -> Vec<Field> {
    let hardware = "the operator's inventory";
    vec![
        unknown("Data centre: name, owner, operator, location, type (Annex I)", "", FILING),
        unknown("Installed IT power demand (PD_IT)", "kW", METER),
        unknown("Total floor area (S_DC), computer room floor area (S_CR)", "m²", hardware),
        unknown("Total energy consumption (E_DC)", "kWh", METER),
        unknown("Energy consumption of IT equipment (E_IT)", "kWh", METER),
        measured("Of E_IT: GPU boards", report),
        unknown("Electricity grid functions; average battery capacity (C_BtG)", "kW", METER),
        unknown("Total water input (W_IN), potable water (W_IN-POT)", "m³", METER),
        unknown("Waste heat reused (E_REUSE), its temperature (T_WH)", "kWh, °C", METER),
        unknown("Intake air temperature (T_IN), refrigerants, cooling degree days", "", hardware),
        unknown("Renewable energy (E_RES-TOT, E_RES-GOO, E_RES-PPA, E_RES-OOS)", "kWh", METER),
        unknown("ICT capacity of servers (C_SERV) and storage (C_STOR)", "", hardware),
        unknown("Data traffic: bandwidth and volume, in and out", "", "the network operator"),
    ]
}

fn eu_ai_act(report: &Report) -> Vec<Field> {
    vec![
        unknown(
            "Model: tasks, architecture, parameters, data (points 1 and 2 (a) to (c))",
            "",
            "the provider of the model",
        ),
        unknown(
            "Computational resources: floating point operations (2 (d))",
            "FLOP",
            "the provider of the model",
        ),
        gpu_hours("Computational resources: GPU-time (2 (d))", report),
        operating_hours("Training time, added up over workers (2 (d))", report),
        activities(report),
        measured("Energy consumption, measured (2 (e))", report),
        declared("Energy consumption, estimated from declared power (2 (e))", report),
        unknown("Energy of hosts, network and cooling (2 (e))", "kWh", METER),
    ]
}
