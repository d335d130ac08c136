//! The devices that are there, and which of them to take.

use std::fmt;

use futures::executor::block_on;

/// A device that Vulkan knows.
#[derive(Clone, Debug)]
pub struct Device {
    index: usize,
    info: wgpu::AdapterInfo,
    pub(crate) adapter: wgpu::Adapter,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU that a hypervisor shows.
    Virtual,
    /// The CPU, by a driver like lavapipe.
    Cpu,
    /// What the driver does not tell.
    Other,
}

/// The devices, in the order in which Vulkan lists them. None where there is no Vulkan. Blocks, for
/// as long as the drivers take to load.
pub fn devices() -> Vec<Device> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    // Neither names for debuggers nor validation.
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let listed = adapters.into_iter().enumerate();
    listed.map(|(index, adapter)| Device { index, info: adapter.get_info(), adapter }).collect()
}

impl Device {
    /// Its place in the list.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What the driver calls it. Devices of the same model have the same name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Who made it, or the PCI vendor's number.
    pub fn vendor(&self) -> String {
        match self.info.vendor {
            0x1002 => "AMD".into(),
            0x10de => "NVIDIA".into(),
            0x8086 => "Intel".into(),
            // Not PCI's, but Khronos' numbers.
            0x1_0005 => "Mesa".into(),
            other => format!("{other:#06x}"),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Cpu,
            wgpu::DeviceType::Other => Kind::Other,
        }
    }

    /// The driver, with its version.
    pub fn driver(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned()
    }

    /// Where it is on the PCI bus, such as `0000:01:00.0`; none where the driver does not tell.
    pub fn pci_address(&self) -> Option<&str> {
        Some(self.info.device_pci_bus_id.as_str()).filter(|address| !address.is_empty())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} ({})", self.index, self.name())
    }
}

/// Which devices to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All that are not CPUs.
    Gpus,
    All,
    /// Those with these indices.
    Indices(Vec<usize>),
}

/// Why there is nothing to hash on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Vulkan knows none.
    #[error(
        "there is no Vulkan device: libvulkan.so.1 and a driver with its description have to be there"
    )]
    NoDevice,
    /// There are only CPUs.
    #[error("there is no GPU, only {0}: ask for all devices to hash on it")]
    NoGpu(String),
    /// There is none with this index.
    #[error("there is no device {index}: the last one is device {last}")]
    NoSuchIndex {
        /// The index that was asked for.
        index: usize,
        /// The highest that there is.
        last: usize,
    },
}

/// Those of the devices that are to be taken, at least one.
pub fn choose(devices: &[Device], choice: &Choice) -> Result<Vec<Device>, ChoiceError> {
    let Some(last) = devices.last() else { return Err(ChoiceError::NoDevice) };
    match choice {
        Choice::All => Ok(devices.to_vec()),
        Choice::Gpus => {
            let gpus = devices.iter().filter(|device| device.kind() != Kind::Cpu).cloned();
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
