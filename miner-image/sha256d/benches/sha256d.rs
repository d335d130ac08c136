//! Hashes per second of one core, by kernel. For comparison on the same machine:
//! `openssl speed -bytes 64 sha256`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use daylight_sha256d::{Kernel, Scan, Target};

/// Nonces per measurement.
const NONCES: u32 = 1 << 16;

fn scan(criterion: &mut Criterion) {
    let scan = Scan::new([7; 80], Target::from_upper(0));
    let mut group = criterion.benchmark_group("sha256d");
    group.throughput(Throughput::Elements(NONCES.into()));
    for kernel in [Kernel::Lanes, Kernel::Instructions] {
        group.bench_function(format!("{kernel:?}"), |bencher| {
            bencher.iter(|| kernel.scan(&scan, 0, NONCES));
        });
    }
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
