//! Metrics of devices in the text formats of NVIDIA's dcgm-exporter and AMD's
//! device-metrics-exporter.
//!
//! | | dcgm-exporter | device-metrics-exporter |
//! |---|---|---|
//! | energy since boot | `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION`, mJ | `gpu_energy_consumed`, µJ |
//! | power | `DCGM_FI_DEV_POWER_USAGE`, W | `gpu_package_power` or `gpu_average_package_power`, W |
//! | power limit | `DCGM_FI_DEV_POWER_MGMT_LIMIT`, W | `gpu_power_cap` or `gpu_max_power`, W |
//! | device | `UUID`, `gpu`, `modelName` | `gpu_uuid` or `serial_number`, `gpu_id`, `card_model` or `card_series` |
//! | holder | `namespace`, `pod` (or `exported_…`) | the same |
//!
//! For each instance of a partitioned device (MIG), and for each pod on a time-sliced one, the
//! figures of the whole device are repeated. They are taken once, and such a device has no holder.

use std::collections::BTreeMap;

use prometheus_parse::{Sample, Scrape, Value};

/// Figures of one device in one answer of its exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceReading {
    /// UUID, or else serial number.
    pub id: String,
    /// Number on the node.
    pub index: Option<u32>,
    pub model: Option<String>,
    /// Energy since the counter began, in millijoules; `None` if missing or blank.
    pub energy_mj: Option<u64>,
    /// Current power, in milliwatts; `None` if missing or blank.
    pub power_mw: Option<u64>,
    /// Power limit, in milliwatts.
    pub limit_mw: Option<u64>,
    /// Namespace and name of the pod that holds all of it, if exactly one does.
    pub holder: Option<(String, String)>,
    /// `true` if several pods or instances hold parts of it.
    pub divided: bool,
}

/// Figure that is read.
#[derive(Clone, Copy)]
enum Figure {
    /// Energy, with the number of its units in a millijoule.
    Energy(f64),
    Power,
    Limit,
}

fn figure(metric: &str) -> Option<Figure> {
    Some(match metric {
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" => Figure::Energy(1.0),
        "DCGM_FI_DEV_POWER_USAGE" | "gpu_package_power" | "gpu_average_package_power" => {
            Figure::Power
        }
        "DCGM_FI_DEV_POWER_MGMT_LIMIT" | "gpu_power_cap" | "gpu_max_power" => Figure::Limit,
        "gpu_energy_consumed" => Figure::Energy(1000.0),
        _ => return None,
    })
}

/// The least number that stands for a missing value. DCGM writes 2^47 in a field of floats
/// (`DCGM_FP64_BLANK`) and almost 2^63 in one of integers (`DCGM_INT64_BLANK`), or a little more.
const BLANK: f64 = 140_737_488_355_328.0;

/// Returns the figures of each device, sorted by id. Lines that cannot be read, or that name no
/// device, are skipped, so a truncated answer yields what it has.
pub fn read(text: &str) -> Vec<DeviceReading> {
    // An answer has hundreds of lines for each device, most of them of no use here.
    let lines = text
        .lines()
        .filter(|line| figure(line.split(['{', ' ']).next().unwrap_or_default()).is_some())
        .map(|line| Ok(line.to_owned()));
    let Ok(scrape) = Scrape::parse(lines) else {
        return Vec::new();
    };
    let mut devices: BTreeMap<String, DeviceReading> = BTreeMap::new();
    for sample in &scrape.samples {
        take(sample, &mut devices);
    }
    devices.into_values().collect()
}

fn take(sample: &Sample, devices: &mut BTreeMap<String, DeviceReading>) {
    let Some(figure) = figure(&sample.metric) else { return };
    let label = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| sample.labels.get(name));
        values.find(|value| !value.is_empty())
    };
    let Some(id) = label(&["UUID", "gpu_uuid", "serial_number"]) else { return };
    let device = devices.entry(id.to_owned()).or_insert_with(|| DeviceReading {
        id: id.to_owned(),
        index: label(&["gpu", "gpu_id"]).and_then(|index| index.parse().ok()),
        model: label(&["modelName", "card_model", "card_series"]).map(str::to_owned),
        ..DeviceReading::default()
    });
    let instance = label(&["GPU_I_ID", "gpu_partition_id"]);
    let holder = label(&["exported_namespace", "namespace"])
        .zip(label(&["exported_pod", "pod"]))
        .map(|(namespace, pod)| (namespace.to_owned(), pod.to_owned()));
    device.divided |= instance.is_some_and(|instance| instance != "0")
        || sample.labels.get("GPU_I_PROFILE").is_some_and(|profile| !profile.is_empty())
        || (holder.is_some() && device.holder.is_some() && holder != device.holder);
    if holder.is_some() {
        device.holder = holder;
    }
    if device.divided {
        device.holder = None;
    }
    let (Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) = sample.value else {
        return;
    };
    let in_range = value.is_finite() && (0.0..BLANK).contains(&value);
    let (place, scale) = match figure {
        // Repeated lines are of the same device. Of two that differ, the larger is the later.
        Figure::Energy(per_mj) => (&mut device.energy_mj, 1.0 / per_mj),
        Figure::Power => (&mut device.power_mw, 1000.0),
        Figure::Limit => (&mut device.limit_mw, 1000.0),
    };
    if in_range {
        let value = (value * scale).round() as u64;
        *place = Some(place.map_or(value, |known| known.max(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DCGM: &str = r#"# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-0a",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",container="miner",namespace="team-a",pod="night-0"} 301.250000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-1b",pci_bus_id="00000000:0B:00.0",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 68.400000
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-0a",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",container="miner",namespace="team-a",pod="night-0"} 987654321
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="1",UUID="GPU-1b",pci_bus_id="00000000:0B:00.0",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 9223372036854775794
"#;

    #[test]
    fn dcgm_exporters_figures_are_read_and_blanks_are_missing() {
        let devices = read(DCGM);
        assert_eq!(devices.len(), 2);
        assert_eq!(
            devices[0],
            DeviceReading {
                id: "GPU-0a".into(),
                index: Some(0),
                model: Some("NVIDIA H100 80GB HBM3".into()),
                energy_mj: Some(987_654_321),
                power_mw: Some(301_250),
                limit_mw: None,
                holder: Some(("team-a".into(), "night-0".into())),
                divided: false,
            }
        );
        assert_eq!((devices[1].energy_mj, devices[1].power_mw), (None, Some(68_400)));
        assert_eq!(devices[1].holder, None);
    }

    #[test]
    fn instances_of_one_device_count_once_and_have_no_single_holder() {
        let line = |instance: u32, pod: &str| {
            format!(
                "DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-0a\",GPU_I_PROFILE=\"1g.10gb\",\
                 GPU_I_ID=\"{instance}\",namespace=\"a\",pod=\"{pod}\"}} 250.5\n"
            )
        };
        let devices = read(&(line(7, "one") + &line(8, "two")));
        assert_eq!(devices.len(), 1);
        assert_eq!((devices[0].power_mw, devices[0].divided), (Some(250_500), true));
        assert_eq!(devices[0].holder, None);
    }

    #[test]
    fn a_time_sliced_device_has_no_single_holder() {
        let line = |pod: &str| {
            format!(
                "DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-0a\",namespace=\"a\",pod=\"{pod}\"}} 99\n"
            )
        };
        let devices = read(&(line("one") + &line("two") + &line("one")));
        assert_eq!((devices[0].divided, &devices[0].holder), (true, &None));
    }

    #[test]
    fn amd_exporters_figures_are_read_in_their_units() {
        let text = r#"gpu_energy_consumed{gpu_id="3",serial_number="692251001124",card_model="MI300X",hostname="n2",pod="train-0",namespace="team-b",container="c"} 123456789000
gpu_package_power{gpu_id="3",serial_number="692251001124",card_model="MI300X",hostname="n2",pod="train-0",namespace="team-b",container="c"} 412
"#;
        let devices = read(text);
        assert_eq!(devices[0].id, "692251001124");
        assert_eq!(devices[0].energy_mj, Some(123_456_789));
        assert_eq!(devices[0].power_mw, Some(412_000));
        assert_eq!(devices[0].holder, Some(("team-b".into(), "train-0".into())));
    }

    #[test]
    fn lines_that_cannot_be_read_are_skipped() {
        let text = format!("{DCGM}DCGM_FI_DEV_POWER_USAGE{{gpu=\"2\",UUI");
        assert_eq!(read(&text).len(), 2);
        assert_eq!(read("<html>502 Bad Gateway</html>").len(), 0);
        assert_eq!(read("DCGM_FI_DEV_POWER_USAGE{gpu=\"0\"} 5\n").len(), 0);
        assert_eq!(read("DCGM_FI_DEV_POWER_USAGE{UUID=\"a\"} NaN\n")[0].power_mw, None);
    }
}
