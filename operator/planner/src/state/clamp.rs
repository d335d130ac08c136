//! Bounds on the numbers of objects, so that no sum over a site overflows.
//!
//! Any user may create a pod that requests 4,294,967,294 GPUs or 2^63 bytes. Such a request fits no
//! node, and is as unsatisfiable once it is cut to a number that no node offers. With the bounds
//! here, 200,000 pods with the largest requests still add up exactly.

use crate::model::{Job, Miner, Node, Pod, Role, Shape};

/// GPUs of one pod. No node offers as many.
const GPUS: u32 = 1 << 14;
/// Workers of one job. No cluster runs as many pods of one Job.
const WORKERS: u32 = 1 << 16;
/// Thousandths of a CPU, and bytes, of one pod: 2^40 CPUs, 1 PiB.
const AMOUNT: u64 = 1 << 50;
/// Declared watts of one pod.
const WATTS: u64 = 1 << 32;

fn shape(shape: &mut Shape) {
    let Shape { gpus, cpu_milli, memory, huge_pages } = shape;
    *gpus = (*gpus).min(GPUS);
    *cpu_milli = (*cpu_milli).min(AMOUNT);
    *memory = (*memory).min(AMOUNT);
    *huge_pages = huge_pages.map(|bytes| bytes.min(AMOUNT));
}

pub(super) fn pod(pod: &mut Pod) {
    for (_, gpus) in &mut pod.gpus {
        *gpus = (*gpus).min(GPUS);
    }
    pod.cpu_milli = pod.cpu_milli.min(AMOUNT);
    pod.memory = pod.memory.min(AMOUNT);
    pod.huge_pages = pod.huge_pages.map(|bytes| bytes.min(AMOUNT));
    if let Role::Miner { watts, .. } = &mut pod.role {
        *watts = (*watts).min(WATTS);
    }
}

pub(super) fn miner(miner: &mut Miner) {
    shape(&mut miner.shape);
    miner.watts = miner.watts.min(WATTS);
}

pub(super) fn job(job: &mut Job) {
    shape(&mut job.shape);
    job.workers = job.workers.min(WORKERS);
}

/// A node offers less than the largest request, so that a request that was cut fits nowhere.
pub(super) fn node(node: &mut Node) {
    for (_, gpus) in &mut node.gpus {
        *gpus = (*gpus).min(GPUS - 1);
    }
    node.cpu_milli = node.cpu_milli.min(AMOUNT - 1);
    node.memory = node.memory.min(AMOUNT - 1);
    node.huge_pages = node.huge_pages.map(|bytes| bytes.min(AMOUNT - 1));
    for (_, gpus) in &mut node.lost {
        *gpus = (*gpus).min(GPUS - 1);
    }
}
