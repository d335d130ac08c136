//! Answers of exporters in the forms that operators reported.

#![allow(clippy::unwrap_used)]

use daylight_exposition::{DeviceId, DeviceReading, Unreadable, devices};
use proptest::prelude::*;

fn own(id: &str) -> DeviceId {
    DeviceId::Own(id.into())
}

#[allow(clippy::unnecessary_wraps, reason = "it is compared with a holder")]
fn pod(namespace: &str, name: &str) -> Option<(String, String)> {
    Some((namespace.into(), name.into()))
}

fn device(id: DeviceId) -> DeviceReading {
    DeviceReading {
        id,
        model: None,
        energy_mj: None,
        power_mw: None,
        limit_mw: None,
        holder: None,
        divided: false,
    }
}

const DCGM: &str = r#"# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-0a",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",container="miner",namespace="team-a",pod="night-0"} 301.250000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-1b",pci_bus_id="00000000:0B:00.0",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 68.400000
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",UUID="GPU-0a",pci_bus_id="00000000:07:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",container="miner",namespace="team-a",pod="night-0"} 987654321
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="1",UUID="GPU-1b",pci_bus_id="00000000:0B:00.0",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 9223372036854775794
"#;

const H100: &str = "NVIDIA H100 80GB HBM3";

#[test]
fn dcgm_exporters_figures_are_read() {
    let read = devices(DCGM).unwrap();
    let first = DeviceReading {
        model: Some(H100.into()),
        energy_mj: Some(987_654_321),
        power_mw: Some(301_250),
        holder: pod("team-a", "night-0"),
        ..device(own("GPU-0a"))
    };
    let second =
        DeviceReading { model: Some(H100.into()), power_mw: Some(68_400), ..device(own("GPU-1b")) };
    assert_eq!(read, [first, second]);
    assert_eq!(read[0].id.on("n1"), "GPU-0a");
}

#[test]
fn amd_exporters_figures_are_read_in_their_units() {
    let text = r#"gpu_energy_consumed{gpu_id="3",serial_number="692251001124",card_model="MI300X",hostname="n2",pod="train-0",namespace="team-b",container="c"} 123456789000
gpu_package_power{gpu_id="3",serial_number="692251001124",card_model="MI300X",hostname="n2",pod="train-0",namespace="team-b",container="c"} 412
gpu_power_cap{gpu_id="3",serial_number="692251001124"} 750
"#;
    let expected = DeviceReading {
        model: Some("MI300X".into()),
        energy_mj: Some(123_456_789),
        power_mw: Some(412_000),
        limit_mw: Some(750_000),
        holder: pod("team-b", "train-0"),
        ..device(own("692251001124"))
    };
    assert_eq!(devices(text).unwrap(), [expected]);
}

/// Energy of the only device whose only line has this metric and value.
fn energy(metric: &str, value: &str) -> Option<u64> {
    let read = devices(&format!("{metric}{{gpu_uuid=\"u\"}} {value}\n")).unwrap();
    assert_eq!(read.len(), 1);
    read[0].energy_mj
}

/// The same number is a missing value in one unit and a counter in another: an AMD device passes
/// 2^47 microjoules after 39 kWh.
#[test]
fn a_blank_is_one_of_its_metric() {
    let amd = |value| energy("gpu_energy_consumed", value);
    assert_eq!(amd("140737488355327"), Some(140_737_488_355));
    assert_eq!(amd("140737488355328"), Some(140_737_488_355));
    assert_eq!(amd("1.4e17"), Some(140_000_000_000_000));
    assert_eq!(amd("9.3e18"), Some(9_300_000_000_000_000));
    for blank in ["65535", "4294967295", "1.8446744073709552e+19", "NaN", "-1", "+Inf"] {
        assert_eq!(amd(blank), None, "{blank}");
    }
    let dcgm = |value| energy("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", value);
    // 7 years at 700 W: beyond DCGM's blank of floats, which ends a few units above 2^47.
    assert_eq!(dcgm("150000000000000"), Some(150_000_000_000_000));
    assert_eq!(dcgm("140737488355327"), Some(140_737_488_355_327));
    for blank in ["140737488355328.000000", "140737488355330", "9223372036854775792", "1e19"] {
        assert_eq!(dcgm(blank), None, "{blank}");
    }
}

#[test]
fn a_power_or_a_limit_that_does_not_apply_is_missing() {
    let read = |metric: &str, value: &str| {
        let read = devices(&format!("{metric}{{serial_number=\"s\"}} {value}\n")).unwrap();
        (read[0].power_mw, read[0].limit_mw)
    };
    assert_eq!(read("gpu_package_power", "0"), (Some(0), None));
    assert_eq!(read("gpu_package_power", "65535"), (None, None));
    assert_eq!(read("DCGM_FI_DEV_POWER_USAGE", "140737488355328"), (None, None));
    assert_eq!(read("gpu_max_power", "750"), (None, Some(750_000)));
    // In a guest. As a limit it would make each reading a jump.
    assert_eq!(read("gpu_power_cap", "0"), (None, None));
    assert_eq!(read("gpu_power_cap", "4294967295"), (None, None));
}

#[test]
fn virtual_functions_with_a_uuid_of_zeros_are_told_apart_by_number() {
    let text = include_str!("answers/amd-virtual-functions.txt");
    let expected = |number, energy_mj, power_mw, holder| DeviceReading {
        model: Some("Instinct MI300X VF".into()),
        energy_mj: Some(energy_mj),
        power_mw: Some(power_mw),
        holder,
        ..device(DeviceId::Number(number))
    };
    let expected = [
        expected(0, 9_000_000, 640_000, pod("team-a", "night-0")),
        expected(1, 4_000_000, 150_000, pod("ai-team", "train-0")),
    ];
    assert_eq!(devices(text).unwrap(), expected);
    assert_eq!(devices(&text.replace("amd_", "")).unwrap(), expected, "without the prefix");
    assert_eq!(expected[1].id.on("n7"), "n7/1");
}

#[test]
fn a_device_without_an_identity_has_its_number() {
    let read = devices(include_str!("answers/amd-no-identity.txt")).unwrap();
    let expected = DeviceReading {
        energy_mj: Some(700_000),
        power_mw: Some(0),
        holder: pod("team-a", "night-0"),
        ..device(DeviceId::Number(0))
    };
    assert_eq!(read, [expected]);
}

#[test]
fn words_and_zeros_are_no_identity() {
    let zeros = "GPU-00000000-0000-0000-0000-000000000000";
    for blank in ["NA", "n/a", "0", "4294967295", zeros, "ffffffffffffffff", "", " "] {
        let text = format!(
            "gpu_package_power{{gpu_uuid=\"{blank}\",serial_number=\"{blank}\",gpu_id=\"5\"}} 9\n"
        );
        assert_eq!(devices(&text).unwrap()[0].id, DeviceId::Number(5), "{blank}");
        let text = text.replace(",serial_number=\"", ",serial_number=\"7");
        assert!(matches!(&devices(&text).unwrap()[0].id, DeviceId::Own(id) if id.starts_with('7')));
    }
}

#[test]
fn devices_with_the_same_serial_number_are_told_apart_by_number() {
    let line = |number: u32, power: u32| {
        format!(
            "gpu_package_power{{serial_number=\"S\",gpu_id=\"{number}\",gpu_partition_id=\"0\"}} {power}\n"
        )
    };
    let read = devices(&(line(0, 100) + &line(1, 200))).unwrap();
    let ids: Vec<&DeviceId> = read.iter().map(|device| &device.id).collect();
    assert_eq!(ids, [&DeviceId::Number(0), &DeviceId::Number(1)]);
    assert_eq!((read[0].power_mw, read[1].power_mw), (Some(100_000), Some(200_000)));
    assert!(!read[0].divided);
}

/// Each partition has a number of its own on the node, and the serial number of its device. Some
/// versions report the first partition only.
#[test]
fn partitions_of_an_amd_device_are_one_device() {
    let line = |number: u32, partition: u32| {
        format!(
            "gpu_energy_consumed{{gpu_compute_partition_type=\"dpx\",gpu_id=\"{number}\",\
             gpu_partition_id=\"{partition}\",serial_number=\"S\",namespace=\"a\",pod=\"p{number}\"}} 5000000\n"
        )
    };
    let whole = DeviceReading { energy_mj: Some(5000), divided: true, ..device(own("S")) };
    assert_eq!(devices(&(line(6, 0) + &line(7, 1))).unwrap(), std::slice::from_ref(&whole));
    assert_eq!(
        devices(&line(6, 0)).unwrap(),
        std::slice::from_ref(&whole),
        "the first partition alone"
    );
    // Without a serial number, the first partition stands for the device.
    let nameless = (line(6, 0) + &line(7, 1)).replace("\"S\"", "\"\"");
    assert_eq!(devices(&nameless).unwrap(), [DeviceReading { id: DeviceId::Number(6), ..whole }]);
}

#[test]
fn earlier_names_of_dcgm_exporter_are_read() {
    let read = devices(include_str!("answers/dcgm-old-names.txt")).unwrap();
    let first = DeviceReading {
        model: Some("NVIDIA A100 80GB PCIe".into()),
        energy_mj: Some(123_456_789),
        power_mw: Some(250_100),
        holder: pod("team-a", "night-0"),
        ..device(own("GPU-33aa"))
    };
    let second = DeviceReading { energy_mj: Some(5_555_555), ..device(own("GPU-44bb")) };
    assert_eq!(read, [first, second]);
}

#[test]
fn instances_of_one_device_count_once_and_have_no_single_holder() {
    for (number, energy) in [(1, 126_272_106_318), (2, 126_272_101_025)] {
        let text = match number {
            1 => include_str!("answers/dcgm-uneven-instances-1.txt"),
            _ => include_str!("answers/dcgm-uneven-instances-2.txt"),
        };
        let read = devices(text).unwrap();
        assert_eq!((read.len(), read[0].energy_mj, read[0].divided), (1, Some(energy), true));
    }
    let read = devices(include_str!("answers/dcgm-uneven-instances-3.txt")).unwrap();
    assert_eq!((read[0].energy_mj, read[0].divided), (Some(126_273_751_025), false));
}

#[test]
fn a_time_sliced_device_has_no_single_holder() {
    let line = |pod: &str| {
        format!(
            "DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-0a\",namespace=\"a\",pod=\"{pod}\"}} 99\n"
        )
    };
    let read = devices(&(line("one") + &line("two") + &line("one"))).unwrap();
    assert_eq!((read[0].divided, &read[0].holder), (true, &None));
}

#[test]
fn labels_name_their_own_pod_whatever_other_labels_hold() {
    let read = devices(include_str!("answers/dcgm-odd-labels.txt")).unwrap();
    let holders: Vec<_> =
        read.iter().map(|device| (device.id.on("n"), device.holder.clone())).collect();
    let expected: Vec<_> =
        (0..7).map(|number| (format!("GPU-s{number}"), pod("a", &format!("p{number}")))).collect();
    assert_eq!(holders, expected);
    let power: Vec<_> = read.iter().map(|device| device.power_mw).collect();
    assert_eq!(power, (100..107).map(|watts| Some(watts * 1000)).collect::<Vec<_>>());
}

/// dcgm-exporter can add the labels of pods, which their owners choose.
#[test]
fn a_pods_own_labels_do_not_book_its_energy_to_another() {
    let line = |more: &str| {
        format!(
            "DCGM_FI_DEV_POWER_USAGE{{UUID=\"GPU-7a\",gpu=\"0\",{more},namespace=\"a\",pod=\"p\"}} 9\n"
        )
    };
    for more in [
        "exported_namespace=\"b\",exported_pod=\"victim\"",
        "pod_namespace=\"b\",pod_name=\"victim\"",
        "gpu_uuid=\"GPU-1b\"",
    ] {
        let read = devices(&line(more)).unwrap();
        assert_eq!((&read[0].id, &read[0].holder), (&own("GPU-7a"), &pod("a", "p")), "{more}");
    }
    for more in ["pod=\"victim\"", "UUID=\"GPU-1b\"", "uuid=\"GPU-1b\""] {
        assert_eq!(devices(&line(more)), Err(Unreadable::NoSamples), "{more}");
    }
}

#[test]
fn an_answer_without_a_device_says_what_is_missing() {
    assert_eq!(devices(include_str!("answers/dcgm-help-only.txt")), Err(Unreadable::NoMetrics));
    assert_eq!(devices("<html>502 Bad Gateway</html>"), Err(Unreadable::NoMetrics));
    assert_eq!(devices("DCGM_FI_DEV_POWER_USAGE{gpu=\"2\",UUI"), Err(Unreadable::NoSamples));
    assert_eq!(devices("DCGM_FI_DEV_POWER_USAGE{pod=\"p\"} 5"), Err(Unreadable::NoIdentity));
    let truncated = format!("{DCGM}DCGM_FI_DEV_POWER_USAGE{{gpu=\"2\",UUI");
    assert_eq!(devices(&truncated), devices(DCGM));
}

#[test]
fn a_metric_without_the_identity_joins_the_device_of_its_number() {
    let text = "DCGM_FI_DEV_POWER_USAGE{gpu=\"1\",UUID=\"GPU-1b\"} 50\n\
                DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu=\"1\"} 7000\n";
    let expected =
        DeviceReading { energy_mj: Some(7000), power_mw: Some(50_000), ..device(own("GPU-1b")) };
    assert_eq!(devices(text).unwrap(), [expected]);
}

/// A line of either exporter, with labels that may be missing, blank or shared.
fn line() -> impl Strategy<Value = String> {
    let metric = prop::sample::select(vec![
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_POWER_USAGE",
        "dcgm_power_usage",
        "amd_gpu_energy_consumed",
        "gpu_package_power",
        "gpu_power_cap",
        "up",
    ]);
    let word = |words: &[&str]| {
        prop::sample::select(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    let label = (
        word(&[
            "UUID",
            "uuid",
            "gpu_uuid",
            "serial_number",
            "gpu",
            "gpu_id",
            "gpu_partition_id",
            "GPU_I_ID",
            "namespace",
            "pod",
            "gpu_compute_partition_type",
        ]),
        word(&["", "0", "1", "2", "NA", "4294967295", "a", "b", "cpx", "a,pod=\\\"b\\\""]),
    );
    let labels = prop::collection::btree_map(label.0, label.1, 0..7);
    let value = word(&["0", "1", "17.5", "65535", "1.4e17", "140737488355328", "NaN", "1e19", "x"]);
    (metric, labels, value).prop_map(|(metric, labels, value)| {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        format!("{metric}{{{}}} {value}", labels.join(","))
    })
}

proptest! {
    #[test]
    fn the_order_of_lines_and_broken_lines_change_nothing(
        lines in prop::collection::vec(line(), 0..12),
        turn in any::<prop::sample::Index>(),
    ) {
        let read = devices(&lines.join("\n"));
        let mut turned = lines.clone();
        turned.rotate_left(if lines.is_empty() { 0 } else { turn.index(lines.len()) });
        turned.reverse();
        prop_assert_eq!(&devices(&turned.join("\n")), &read);
        if read.is_ok() {
            let broken = format!("up{{\n{}\ngpu_package_power{{gpu_uuid=\"a", lines.join("\n"));
            prop_assert_eq!(&devices(&broken), &read);
        }
        for pair in read.iter().flatten().collect::<Vec<_>>().windows(2) {
            prop_assert!(pair[0].id < pair[1].id, "each device once, sorted");
        }
    }
}
