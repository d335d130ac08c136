//! A sample that is written again is the same sample, and the devices of an answer do not depend on
//! the order of its lines, or on lines that are broken.

#![no_main]

use std::fmt::Write as _;

use daylight_exposition::{Sample, devices};

fn write(sample: &Sample<'_>) -> String {
    let mut line = format!("{}{{", sample.name);
    for (name, value) in sample.labels() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(line, "{name}=\"{value}\",").unwrap();
    }
    write!(line, "}} {}", sample.value).unwrap();
    line
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    for line in text.lines() {
        if let Some(sample) = Sample::parse(line) {
            let written = write(&sample);
            let again = Sample::parse(&written).expect("what is written can be read");
            assert!(again == sample || sample.value.is_nan(), "{line:?} {written:?}");
        }
    }
    let read = devices(text);
    let reversed: Vec<&str> = text.lines().rev().collect();
    assert_eq!(devices(&reversed.join("\n")), read);
    if let Ok(read) = read {
        assert_eq!(devices(&format!("gpu_package_power{{\n{text}\n")).as_ref(), Ok(&read));
        assert!(read.windows(2).all(|pair| pair[0].id < pair[1].id));
        for device in &read {
            assert!(device.power_mw.is_none_or(|power| power <= 65_535_000));
            assert!(device.limit_mw.is_none_or(|limit| (1..=65_535_000).contains(&limit)));
            assert!(device.holder.is_none() || !device.divided);
        }
    }
});
