//! SHA-256d, Bitcoin's proof of work, on GPUs: by compute shaders, through Vulkan.
//!
//! [`devices`] lists what is there, [`Choice`] picks, and [`Engine`] hashes on what was picked: work
//! comes from a client of `daylight-stratum`, and the shares go back to it. [`Kernel`] is one
//! device's part, for those who want to hash without a pool.
//!
//! The device does all the hashing but little of the deciding. The CPU computes what is the same
//! for all nonces of a header. The device compares the upper 32 bits of each hash with the target's
//! and writes down the nonces that pass. The CPU hashes those again and compares the whole. Should
//! the device find more than it has room to write down, the batch is divided and hashed again.
//!
//! # What an image needs
//!
//! The binary has to be a dynamic one: a static one cannot load drivers. The loader finds `libc`,
//! `libm` and `libgcc_s`; nothing else is linked. At run time `libvulkan.so.1` is opened, which is
//! Khronos' loader (in Debian the package libvulkan1). Without it there is no device, and no error.
//! The loader reads the drivers' descriptions, one JSON file each, from `/etc/vulkan/icd.d` and
//! `/usr/share/vulkan/icd.d`, or those that `VK_DRIVER_FILES` names, and opens the libraries that
//! they name:
//!
//! - NVIDIA: the container toolkit mounts the library (`libGLX_nvidia.so.0`) and the description
//!   where `NVIDIA_DRIVER_CAPABILITIES` holds `graphics`. `compute` alone is not enough.
//! - AMD, Intel, and lavapipe, which computes on the CPU: Mesa (in Debian mesa-vulkan-drivers), and
//!   for the first two the device's node below `/dev/dri`.
//!
//! Mesa and NVIDIA keep compiled shaders below `~/.cache`. Where that cannot be written, each start
//! compiles anew.

mod device;
mod engine;
mod kernel;
mod lost;
mod pace;
mod params;
mod sha256;
mod shader;

pub use device::{Choice, ChoiceError, Device, Kind, choose, devices};
pub use engine::Engine;
pub use kernel::Kernel;
pub use lost::DeviceLost;
