//! One device: batches of nonces, and those of them that reach the target.

use std::iter::repeat_with;
use std::time::{Duration, Instant};

use daylight_stratum::sha256d::Scan;
use futures::executor::block_on;

use crate::device_lost::FirstError;
use crate::params::{NAMES, params};
use crate::shader::{GROUP, ROOM, shader};
use crate::{Device, DeviceLost};

/// A device that hashes.
#[derive(Debug)]
pub struct Kernel {
    device: Device,
    opened: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    /// Buffers that no batch uses.
    slots: Vec<Slot>,
    error: FirstError,
}

/// Buffers of one batch on the device.
#[derive(Debug)]
struct Slot {
    params: wgpu::Buffer,
    found: wgpu::Buffer,
    /// A copy of `found` that the CPU can map: a storage buffer cannot be.
    read: wgpu::Buffer,
    group: wgpu::BindGroup,
}

/// A batch that the device is computing.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) scan: Scan,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) begun: Instant,
    slot: Slot,
    submission: wgpu::SubmissionIndex,
}

/// Batches on the device at a time: it computes one while the CPU handles the other.
pub(crate) const IN_FLIGHT: usize = 2;

/// Longest duration of a batch, after which the device counts as lost. A batch takes milliseconds, and
/// more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nonces that [`Kernel::scan`] sends at once: a millisecond of a fast device, a second of a slow one.
const PART: u32 = 1 << 22;

/// Size of the results in bytes: their number, and each.
const FOUND: u64 = 4 + 4 * ROOM as u64;

impl Kernel {
    /// Opens a device, and compiles the shader for it. Blocks for up to some seconds.
    pub fn open(device: &Device) -> Result<Self, DeviceLost> {
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: wgpu::Limits::downlevel_defaults(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (opened, queue) = block_on(device.adapter.request_device(&descriptor))
            .map_err(|error| DeviceLost::new(device, &error.to_string()))?;
        let error = FirstError::of(&opened);
        let module = opened.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(shader().into()),
        });
        let pipeline = opened.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // The shader has no workgroup memory to zero.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let slots = repeat_with(|| Slot::new(&opened, &pipeline)).take(IN_FLIGHT).collect();
        let kernel = Self { device: device.clone(), opened, queue, pipeline, slots, error };
        kernel.check()?;
        Ok(kernel)
    }

    /// Returns the nonces that reach the target, among `count` from `first` on (0 follows the highest), in
    /// that order. Blocks.
    pub fn scan(&mut self, scan: &Scan, first: u32, count: u32) -> Result<Vec<u32>, DeviceLost> {
        let starts = (0..count).step_by(PART as usize).rev();
        let mut parts: Vec<_> =
            starts.map(|start| (first.wrapping_add(start), PART.min(count - start))).collect();
        let mut found = vec![];
        while let Some((first, count)) = parts.pop() {
            let batch = self.begin(scan.clone(), first, count)?;
            match self.end(batch)? {
                Some(nonces) => found.extend(nonces),
                None => parts.extend(halves(first, count)),
            }
        }
        Ok(found)
    }

    /// Sends a batch to the device, of which there should be at most [`IN_FLIGHT`].
    pub(crate) fn begin(
        &mut self,
        scan: Scan,
        first: u32,
        count: u32,
    ) -> Result<Batch, DeviceLost> {
        let slot = self.slots.pop().unwrap_or_else(|| Slot::new(&self.opened, &self.pipeline));
        // Ordered before the dispatch by the queue, so that no batch sees another's parameters.
        self.queue.write_buffer(&slot.params, 0, &params(&scan, first, count));
        let mut encoder =
            self.opened.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(&slot.found, 0, Some(4));
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &slot.group, &[]);
            let (x, y) = groups(count);
            pass.dispatch_workgroups(x, y, 1);
        }
        encoder.copy_buffer_to_buffer(&slot.found, 0, &slot.read, 0, FOUND);
        // A failure shows when the buffer is read.
        encoder.map_buffer_on_submit(&slot.read, wgpu::MapMode::Read, .., |_| {});
        let submission = self.queue.submit([encoder.finish()]);
        self.check()?;
        Ok(Batch { scan, first, count, begun: Instant::now(), slot, submission })
    }

    /// Waits for a batch. Returns the nonces that reach the target; none if the device found more than it
    /// can store, and the batch has to be divided.
    pub(crate) fn end(&mut self, batch: Batch) -> Result<Option<Vec<u32>>, DeviceLost> {
        let Batch { scan, first, slot, submission, .. } = batch;
        let poll =
            wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        let polled = self.opened.poll(poll);
        self.check()?;
        if let Err(error) = polled {
            return Err(self.lost(&error.to_string()));
        }
        let found = {
            let bytes = slot.read.get_mapped_range(..).map_err(|e| self.lost(&e.to_string()))?;
            let (words, _) = bytes.as_chunks::<4>();
            let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
            let count = words.next().unwrap_or(0);
            (count <= ROOM).then(|| words.take(count as usize).collect::<Vec<_>>())
        };
        slot.read.unmap();
        self.slots.push(slot);
        Ok(found.map(|mut nonces| {
            nonces.retain(|nonce| scan.proved(*nonce));
            // The invocations store in any order.
            nonces.sort_unstable_by_key(|nonce| nonce.wrapping_sub(first));
            nonces
        }))
    }

    /// Makes the device fail.
    #[cfg(feature = "loss")]
    pub(crate) fn lose(&self) {
        self.opened.destroy();
    }

    fn check(&self) -> Result<(), DeviceLost> {
        self.error.get().map_or(Ok(()), |error| Err(self.lost(error)))
    }

    /// Returns the loss of the device, with the first error of the graphics stack or else this cause.
    pub(crate) fn lost(&self, cause: &str) -> DeviceLost {
        DeviceLost::new(&self.device, self.error.get().unwrap_or(cause))
    }
}

impl Slot {
    fn new(device: &wgpu::Device, pipeline: &wgpu::ComputePipeline) -> Self {
        use wgpu::BufferUsages as Usages;

        let buffer = |size, usage| {
            let mapped_at_creation = false;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation,
            })
        };
        let params = buffer(4 * NAMES.len() as u64, Usages::UNIFORM | Usages::COPY_DST);
        let found = buffer(FOUND, Usages::STORAGE | Usages::COPY_DST | Usages::COPY_SRC);
        let read = buffer(FOUND, Usages::MAP_READ | Usages::COPY_DST);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: found.as_entire_binding() },
            ],
        });
        Self { params, found, read, group }
    }
}

/// Returns the workgroups for a number of nonces, in rows: a dimension has at most 65,535.
fn groups(count: u32) -> (u32, u32) {
    let groups = count.div_ceil(GROUP);
    let row = groups.min(1 << 15);
    (row, if row == 0 { 0 } else { groups.div_ceil(row) })
}

/// Returns both halves of a range, the later one first.
fn halves(first: u32, count: u32) -> [(u32, u32); 2] {
    let half = count / 2;
    [(first.wrapping_add(half), count - half), (first, half)]
}
