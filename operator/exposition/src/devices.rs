//! Energy and power of each device.
//!
//! | | dcgm-exporter | device-metrics-exporter |
//! |---|---|---|
//! | energy | `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION`, mJ | `gpu_energy_consumed`, µJ |
//! | power | `DCGM_FI_DEV_POWER_USAGE`, W | `gpu_package_power`, `gpu_average_package_power` or `gpu_power_usage`, W |
//! | power limit | `DCGM_FI_DEV_POWER_MGMT_LIMIT`, W | `gpu_power_cap` or `gpu_max_power`, W |
//! | device | `UUID`, `gpu`, `modelName` | `gpu_uuid` or `serial_number`, `gpu_id`, `card_model` or `card_series` |
//! | partition | `GPU_I_ID`, `GPU_I_PROFILE` | `gpu_partition_id`, `gpu_compute_partition_type` |
//! | holder | `namespace`, `pod` | the same |
//!
//! Earlier versions of dcgm-exporter have the metrics in lower case, or without `fi_dev`, and the
//! labels `uuid`, `pod_namespace` and `pod_name`. device-metrics-exporter can be configured to put a
//! prefix in front of its metrics.
//!
//! For each instance of a partitioned device, and for each pod on a time-sliced one, the figures of
//! the whole device are repeated. They are taken once, and such a device has no holder.

use std::collections::{BTreeMap, BTreeSet};

use crate::sample::{Sample, samples};

/// Figures of one device in one answer of its exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReading {
    pub id: DeviceId,
    pub model: Option<String>,
    /// Energy since the counter began, in millijoules; `None` if missing or blank.
    pub energy_mj: Option<u64>,
    /// Current power, in milliwatts; `None` if missing or blank.
    pub power_mw: Option<u64>,
    /// Power limit, in milliwatts; `None` if missing, blank or 0.
    pub limit_mw: Option<u64>,
    /// Namespace and name of the pod that holds all of it, if exactly one does.
    pub holder: Option<(String, String)>,
    /// `true` if several pods or instances hold parts of it.
    pub divided: bool,
}

/// Identity of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceId {
    /// Its UUID or serial number.
    Own(String),
    /// Its number on the node, where it has neither, or shares it with another device.
    Number(u32),
}

impl DeviceId {
    /// Returns an identity that holds in the whole cluster. `node` is the name of its node.
    pub fn on(&self, node: &str) -> String {
        match self {
            Self::Own(id) => id.clone(),
            Self::Number(number) => format!("{node}/{number}"),
        }
    }
}

/// Reason that an answer has no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the answer has no metric of a device's energy or power")]
    NoMetrics,
    #[error("its lines with energy or power do not have the form NAME{{LABEL=\"VALUE\",…}} NUMBER")]
    NoSamples,
    #[error(
        "its metrics name no device; they need one of the labels UUID, gpu_uuid, serial_number, \
         gpu or gpu_id"
    )]
    NoIdentity,
}

/// Returns the figures of each device, sorted by id. Lines that cannot be read, or that name no
/// device, are skipped.
pub fn devices(text: &str) -> Result<Vec<DeviceReading>, Unreadable> {
    let is_figure = |name: &str| metric(name).is_some();
    let lines: Vec<Line> =
        samples(text, is_figure).filter_map(|sample| Line::of(&sample)).collect();
    let devices = by_device(&lines);
    if !devices.is_empty() {
        return Ok(devices);
    }
    let names = text.lines().map(|line| line.split(['{', ' ', '\t']).next().unwrap_or_default());
    match names.filter(|name| is_figure(name)).count() {
        0 => Err(Unreadable::NoMetrics),
        _ if lines.is_empty() => Err(Unreadable::NoSamples),
        _ => Err(Unreadable::NoIdentity),
    }
}

/// Figure that is read, with the exporter's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// In millijoules.
    DcgmEnergy,
    /// In microjoules.
    AmdEnergy,
    /// In watts.
    Power,
    /// In watts.
    Limit,
}

fn metric(name: &str) -> Option<Metric> {
    Some(match name {
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
        | "dcgm_fi_dev_total_energy_consumption"
        | "dcgm_total_energy_consumption" => Metric::DcgmEnergy,
        "DCGM_FI_DEV_POWER_USAGE" | "dcgm_fi_dev_power_usage" | "dcgm_power_usage" => Metric::Power,
        "DCGM_FI_DEV_POWER_MGMT_LIMIT" | "dcgm_fi_dev_power_mgmt_limit" => Metric::Limit,
        // Any prefix may be configured, such as `amd_`.
        _ => {
            let at = name.rfind("gpu_").filter(|at| *at == 0 || name[..*at].ends_with('_'))?;
            match &name[at..] {
                "gpu_energy_consumed" => Metric::AmdEnergy,
                "gpu_package_power" | "gpu_average_package_power" | "gpu_power_usage" => {
                    Metric::Power
                }
                "gpu_power_cap" | "gpu_max_power" => Metric::Limit,
                _ => return None,
            }
        }
    })
}

/// DCGM's `DCGM_FP64_BLANK`, 2^47, and `DCGM_INT64_BLANK`, almost 2^63. The numbers that follow each
/// of them say why there is no value.
const DCGM_BLANK: [f64; 2] = [140_737_488_355_328.0, 9_223_372_036_854_775_792.0];
const DCGM_BLANKS: f64 = 16.0;

/// Largest numbers of 16, 32 and 64 bits: amdsmi's values of what does not apply to a device.
const AMD_BLANK: [f64; 3] = [65_535.0, 4_294_967_295.0, 18_446_744_073_709_551_615.0];

/// No board draws as many watts: the smallest number that stands for a missing power.
const NO_WATTS: f64 = 65_535.0;

impl Metric {
    /// Returns a value in millijoules or milliwatts; `None` if it stands for a missing one. Which
    /// numbers do depends on the metric: the same number is an energy in another unit.
    fn value(self, value: f64) -> Option<u64> {
        if !(0.0..=u64::MAX as f64).contains(&value) {
            return None;
        }
        let (is_blank, scaled) = match self {
            Self::DcgmEnergy => {
                let is_blank = |blank: &f64| (*blank..*blank + DCGM_BLANKS).contains(&value);
                (DCGM_BLANK.iter().any(is_blank) || value >= DCGM_BLANK[1], value)
            }
            Self::AmdEnergy => (AMD_BLANK.contains(&value), value / 1000.0),
            Self::Power => (value >= NO_WATTS, value * 1000.0),
            // A guest without access to the limit reports 0.
            Self::Limit => (!(0.001..NO_WATTS).contains(&value), value * 1000.0),
        };
        (!is_blank).then(|| scaled.round() as u64)
    }
}

/// Line of an answer, as far as it matters here.
struct Line {
    metric: Metric,
    value: Option<u64>,
    /// UUID or serial number.
    own: Option<String>,
    /// Number on the node, of the device or of its partition.
    number: Option<u32>,
    /// Number of the partition within its device.
    partition: Option<u32>,
    is_part: bool,
    model: Option<String>,
    holder: Option<(String, String)>,
}

impl Line {
    /// Returns `None` if the line contradicts itself.
    fn of(sample: &Sample<'_>) -> Option<Self> {
        let metric = metric(sample.name)?;
        let label = |names: &[&str]| names.iter().find_map(|name| sample.label(name));
        let is_old = sample.label("uuid").is_some();
        if is_old && sample.label("UUID").is_some() {
            // Only a pod's own label can bring the other spelling.
            return None;
        }
        // A pod's own labels, which dcgm-exporter can add, must not count before those of the
        // exporter. `exported_pod` does not count either: Prometheus makes it, and no exporter.
        let holder = if is_old {
            label(&["pod_namespace", "namespace"]).zip(label(&["pod_name", "pod"]))
        } else {
            label(&["namespace"]).zip(label(&["pod"]))
        };
        let own = ["UUID", "uuid", "gpu_uuid", "serial_number"];
        let own = own.iter().find_map(|name| sample.label(name).filter(|id| is_identity(id)));
        let partition = label(&["GPU_I_ID", "gpu_partition_id"]).and_then(number);
        let is_part = partition.is_some_and(|partition| partition > 0)
            || sample.label("GPU_I_PROFILE").is_some()
            || sample.label("gpu_compute_partition_type").is_some_and(is_part_of_device);
        Some(Self {
            metric,
            value: metric.value(sample.value),
            own: own.map(str::to_owned),
            number: label(&["gpu", "gpu_id"]).and_then(number),
            partition,
            is_part,
            model: label(&["modelName", "card_model", "card_series"]).map(str::to_owned),
            holder: holder.map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned())),
        })
    }
}

/// Returns a number that applies. The largest ones of 16 and 32 bits mean that none does.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number < u32::from(u16::MAX))
}

/// Returns `false` for words and numbers that stand for an unknown identity, such as the UUID of a
/// virtual function, which is all zeros.
fn is_identity(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.strip_prefix("gpu-").unwrap_or(&text);
    let all = |digit: char| digits.chars().all(|c| c == digit || c == '-');
    let is_blank = ["na", "n/a", "none", "null", "unknown"].contains(&&*text)
        || digits.parse().is_ok_and(|number: f64| AMD_BLANK.contains(&number));
    !is_blank && !all('0') && !all('f')
}

/// Returns `true` for AMD's compute partition types that divide a device; `spx` does not.
fn is_part_of_device(kind: &str) -> bool {
    ["dpx", "tpx", "qpx", "cpx"].iter().any(|divides| kind.eq_ignore_ascii_case(divides))
}

/// Collects the lines of each device.
fn by_device(lines: &[Line]) -> Vec<DeviceReading> {
    // What each identity and each number is seen with.
    let mut numbers_of: BTreeMap<&str, BTreeMap<u32, BTreeSet<Option<u32>>>> = BTreeMap::new();
    let mut owns_of: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for line in lines {
        if let Some((own, number)) = line.own.as_deref().zip(line.number) {
            numbers_of.entry(own).or_default().entry(number).or_default().insert(line.partition);
            owns_of.entry(number).or_default().insert(own);
        }
    }
    let is_repeated = |own: &str| numbers_of.get(own).is_some_and(|numbers| !are_parts(numbers));
    let id_of = |line: &Line| -> Option<DeviceId> {
        let own = line.own.as_deref().or_else(|| {
            // A metric without the identity that others of the same number have.
            let owns = owns_of.get(&line.number?)?;
            owns.first().filter(|_| owns.len() == 1).copied()
        });
        match own {
            Some(own) if !is_repeated(own) => Some(DeviceId::Own(own.to_owned())),
            // The further partitions repeat the figures of the first, under numbers of their own.
            _ if line.partition.is_some_and(|partition| partition > 0) => None,
            _ => line.number.map(DeviceId::Number),
        }
    };
    let mut devices: BTreeMap<DeviceId, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        if let Some(id) = id_of(line) {
            devices.entry(id).or_default().push(line);
        }
    }
    devices.into_iter().map(|(id, lines)| reading(id, &lines)).collect()
}

/// Returns whether one identity under these numbers, each with its partitions, is one device.
fn are_parts(numbers: &BTreeMap<u32, BTreeSet<Option<u32>>>) -> bool {
    let partitions: Vec<Option<u32>> = numbers.values().flatten().copied().collect();
    let distinct: BTreeSet<u32> = partitions.iter().copied().flatten().collect();
    numbers.len() == 1 || distinct.len() == partitions.len()
}

fn reading(id: DeviceId, lines: &[&Line]) -> DeviceReading {
    // Repeated lines are of the same device. Of two figures that differ, the larger is the later.
    let largest = |is: &dyn Fn(Metric) -> bool| {
        lines.iter().filter(|line| is(line.metric)).filter_map(|line| line.value).max()
    };
    let holders: BTreeSet<_> = lines.iter().filter_map(|line| line.holder.as_ref()).collect();
    let divided = holders.len() > 1 || lines.iter().any(|line| line.is_part);
    DeviceReading {
        id,
        model: lines.iter().filter_map(|line| line.model.as_ref()).min().cloned(),
        energy_mj: largest(&|metric| [Metric::DcgmEnergy, Metric::AmdEnergy].contains(&metric)),
        power_mw: largest(&|metric| metric == Metric::Power),
        limit_mw: largest(&|metric| metric == Metric::Limit),
        holder: holders.first().copied().filter(|_| !divided).cloned(),
        divided,
    }
}
