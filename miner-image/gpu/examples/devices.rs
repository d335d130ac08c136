//! Lists the devices, with the indices that select them: `cargo run -p daylight-gpu --example devices`.

fn main() {
    let devices = daylight_gpu::devices();
    for device in &devices {
        let (kind, place) = (device.kind(), device.pci_address().unwrap_or("no PCI address"));
        println!("{device}: {kind:?}, {}, {}, {place}", device.vendor(), device.driver());
    }
    if devices.is_empty() {
        println!("{}", daylight_gpu::ChoiceError::NoDevice);
    }
}
