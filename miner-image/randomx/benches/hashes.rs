//! Hashes per second: `cargo bench -p daylight-randomx [-- light|fast]`. For comparison, the
//! library's own `randomx-benchmark`, which cmake builds with it.

use std::env;
use std::error::Error;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use daylight_randomx::{Hasher, Memory, Mode, Options, Ready};

/// Duration of each measurement.
const TIME: Duration = Duration::from_secs(15);

/// Threads that fill the dataset, and hash at most.
const THREADS: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let modes = [Mode::Light, Mode::Fast];
    let named: Vec<_> = env::args().collect();
    let asked = modes.iter().any(|mode| named.contains(&mode.to_string()));
    for mode in modes.into_iter().filter(|mode| !asked || named.contains(&mode.to_string())) {
        let threads = NonZeroU32::new(THREADS).ok_or("no threads")?;
        let mut memory = Memory::new(Options { threads, mode, huge_pages: true })?;
        let start = Instant::now();
        let ready = memory.prepare(&[7; 32], &|_| ControlFlow::Continue(()))?;
        let ready = ready.ok_or("the memory was not filled")?;
        println!("{mode}: filled in {:.1} s, on {}", start.elapsed().as_secs_f64(), ready.pages());
        for threads in 1..=THREADS {
            report(mode, threads, "one begun while one is ended", ready, pipelined)?;
        }
        report(mode, 1, "one after the other", ready, single)?;
    }
    Ok(())
}

fn report(
    mode: Mode,
    threads: u32,
    how: &str,
    ready: Ready<'_>,
    hash: fn(&mut Hasher<'_>) -> f64,
) -> Result<(), Box<dyn Error>> {
    let hashers = (0..threads).map(|_| ready.hasher()).collect::<Result<Vec<_>, _>>()?;
    let together = Barrier::new(hashers.len());
    let rates: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = (hashers.into_iter())
            .map(|mut hasher| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    hash(&mut hasher)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).collect()
    });
    let all: f64 = rates.iter().sum();
    let each: Vec<_> = rates.iter().map(|rate| format!("{rate:.1}")).collect();
    println!("{mode}, {threads} threads, {how}: {all:.1} H/s ({})", each.join(" + "));
    Ok(())
}

fn pipelined(hasher: &mut Hasher<'_>) -> f64 {
    hasher.begin(&[0; 76]);
    rate(|input| hasher.next(input))
}

fn single(hasher: &mut Hasher<'_>) -> f64 {
    rate(|input| hasher.hash(input))
}

fn rate(mut hash: impl FnMut(&[u8]) -> [u8; 32]) -> f64 {
    let (start, mut hashes) = (Instant::now(), 0_u32);
    let mut input = [0; 76];
    while start.elapsed() < TIME {
        hashes += 1;
        input[39..43].copy_from_slice(&hashes.to_le_bytes());
        std::hint::black_box(hash(&input));
    }
    f64::from(hashes) / start.elapsed().as_secs_f64()
}
