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
//! The binary has to be a dynamic one: a static one cannot load drivers. It is linked with `libc.so.6`,
//! `libm.so.6` and `libgcc_s.so.1`, and opens `libvulkan.so.1` when [`devices`] is called: Khronos'
//! loader, in Debian the package libvulkan1. Without it there is no device, and no error.
//!
//! The loader reads the drivers' descriptions, a JSON file each, from `/etc/vulkan/icd.d` and
//! `/usr/share/vulkan/icd.d`, or those that `VK_DRIVER_FILES` names (`VK_ICD_FILENAMES` for loaders
//! older than 1.3.207). It opens the libraries that they name, and these need more:
//!
//! - Mesa, for AMD and Intel, and lavapipe, which computes on the CPU: in Debian
//!   mesa-vulkan-drivers, whose dependencies are what it opens, LLVM, libdrm and the client
//!   libraries of X and Wayland among them. GPUs need their node below `/dev/dri`, too.
//!   `NODEVICE_SELECT=1` keeps one of Mesa's layers from complaining that there is no desktop.
//! - NVIDIA: its container toolkit mounts library and description if `NVIDIA_DRIVER_CAPABILITIES`
//!   holds `graphics`; `compute` alone is not enough.
//!
//! Mesa keeps compiled shaders in `~/.cache/mesa_shader_cache`, or where `MESA_SHADER_CACHE_DIR`
//! says. Where it cannot write, it compiles at each start.
//!
//! The tests run on lavapipe.

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
