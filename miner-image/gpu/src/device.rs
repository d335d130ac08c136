//! Devices of this machine, and the selection among them.

use std::fmt;

use futures::executor::block_on;

/// A device that Vulkan lists.
#[derive(Clone, Debug)]
pub struct Device {
    index: usize,
    info: wgpu::AdapterInfo,
    pub(crate) adapter: wgpu::Adapter,
}

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU that a hypervisor provides.
    Virtual,
    /// The CPU, with a driver such as lavapipe.
    Cpu,
    /// The driver does not report it.
    Other,
}

/// Lists the devices, in Vulkan's order; none if there is no Vulkan. Blocks while the drivers load.
pub fn devices() -> Vec<Device> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    // No validation, and no names for debuggers: both slow down each submission.
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let listed = adapters.into_iter().enumerate();
    listed.map(|(index, adapter)| Device { index, info: adapter.get_info(), adapter }).collect()
}

impl Device {
    /// Returns its index in the list.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the driver's name for it, which devices of one model share.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns the vendor, by name or else by its PCI number.
    pub fn vendor(&self) -> String {
        match self.info.vendor {
            0x1002 => "AMD".into(),
            0x10de => "NVIDIA".into(),
            0x8086 => "Intel".into(),
            // A number of Khronos, not of PCI.
            0x1_0005 => "Mesa".into(),
            other => format!("{other:#06x}"),
        }
    }

    /// Returns its kind.
    pub fn kind(&self) -> DeviceKind {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
            wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
            wgpu::DeviceType::Cpu => DeviceKind::Cpu,
            wgpu::DeviceType::Other => DeviceKind::Other,
        }
    }

    /// Returns the driver with its version.
    pub fn driver(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned()
    }

    /// Returns its address on the PCI bus, such as `0000:01:00.0`, if the driver reports it.
    pub fn pci_address(&self) -> Option<&str> {
        Some(self.info.device_pci_bus_id.as_str()).filter(|address| !address.is_empty())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} ({})", self.index, self.name())
    }
}

/// Selection of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All except CPUs.
    Gpus,
    All,
    /// Those with these indices.
    Indices(Vec<usize>),
}

/// Reason why no device is selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Vulkan lists none.
    #[error("no Vulkan device: install libvulkan.so.1 and a driver with its description")]
    NoDevice,
    /// Vulkan lists only CPUs.
    #[error("no GPU, only {0}: select it by its index to hash on it")]
    NoGpu(String),
    /// None has this index.
    #[error("no device {index}: select one from 0 to {last}")]
    NoSuchIndex {
        index: usize,
        /// The highest index.
        last: usize,
    },
}

/// Returns the selected devices, at least one.
pub fn choose(devices: &[Device], choice: &Choice) -> Result<Vec<Device>, ChoiceError> {
    let Some(last) = devices.last() else { return Err(ChoiceError::NoDevice) };
    match choice {
        Choice::All => Ok(devices.to_vec()),
        Choice::Gpus => {
            let gpus = devices.iter().filter(|device| device.kind() != DeviceKind::Cpu).cloned();
            let gpus: Vec<_> = gpus.collect();
            if gpus.is_empty() { Err(ChoiceError::NoGpu(last.to_string())) } else { Ok(gpus) }
        }
        Choice::Indices(indices) => {
            let mut indices = indices.clone();
            indices.sort_unstable();
            indices.dedup();
            if indices.is_empty() {
                return choose(devices, &Choice::Gpus);
            }
            let found = indices.into_iter().map(|index| {
                let error = ChoiceError::NoSuchIndex { index, last: last.index };
                devices.iter().find(|device| device.index == index).cloned().ok_or(error)
            });
            found.collect()
        }
    }
}
