//! SHA-256d, Bitcoin's proof of work, on GPUs: by compute shaders, through Vulkan.
//!
//! [`devices`] lists the devices, [`Choice`] selects among them, and [`Engine`] hashes on the selected
//! ones: it takes work from a client of `daylight-stratum`, and submits the shares to it. [`Kernel`]
//! hashes on one device without a pool.
//!
//! The CPU computes everything that is the same for all nonces of a header. The device compares the
//! upper 32 bits of each hash with the target's, and stores the nonces that pass. The CPU hashes those
//! again and compares the whole hash. If the device finds more than it can store, the batch is divided
//! and hashed again.
//!
//! # Requirements of an image
//!
//! The binary must be linked dynamically, since a static one cannot load drivers. It is linked with `libc.so.6`,
//! `libm.so.6` and `libgcc_s.so.1`, and opens `libvulkan.so.1` when [`devices`] is called: Khronos'
//! loader, in Debian the package libvulkan1. Without it there is no device, and no error.
//!
//! The loader reads the drivers' descriptions, a JSON file each, from `/etc/vulkan/icd.d` and
//! `/usr/share/vulkan/icd.d`, or those that `VK_DRIVER_FILES` names (`VK_ICD_FILENAMES` for loaders
//! older than 1.3.207). It opens the libraries that they name, which have requirements of their own:
//!
//! - Mesa, for AMD and Intel, and lavapipe, which computes on the CPU: in Debian
//!   mesa-vulkan-drivers, which depends on all libraries that it opens, such as LLVM, libdrm and
//!   the client libraries of X and Wayland. GPUs also need their node below `/dev/dri`.
//!   `NODEVICE_SELECT=1` keeps one of Mesa's layers from warning that there is no desktop.
//! - NVIDIA: its container toolkit mounts library and description if `NVIDIA_DRIVER_CAPABILITIES`
//!   holds `graphics`; `compute` alone is not enough.
//!
//! Mesa keeps compiled shaders in `~/.cache/mesa_shader_cache`, or in `MESA_SHADER_CACHE_DIR`. Where it
//! cannot write, it compiles at each start.
//!
//! The tests run on lavapipe.

mod batch_size;
mod device;
mod device_lost;
mod engine;
mod kernel;
mod params;
mod sha256;
mod shader;

pub use device::{Choice, ChoiceError, Device, DeviceKind, choose, devices};
pub use device_lost::DeviceLost;
pub use engine::Engine;
pub use kernel::Kernel;
