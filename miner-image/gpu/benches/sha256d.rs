//! Hashes per second of each device, and the duration of a stop: `cargo bench -p daylight-gpu`.
//!
//! `cargo bench -p daylight-gpu -- 20` measures 20 stops instead of a hundred.

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use daylight_gpu::{Device, Engine, devices};
use daylight_stratum::client::{Client, Config, Timing};
use daylight_stratum::loopback::{Dialect, LoopbackPool, Setup};
use daylight_stratum::{Difficulty, Login, v1};
use tokio::runtime::Runtime;

/// Duration of a measurement.
const COUNTED: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let stops = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100);
    let runtime = Runtime::new()?;
    let _within = runtime.enter();
    // A difficulty at which no share is found.
    let difficulty = Difficulty::new(1e9).ok_or("no difficulty")?;
    let setup = Setup { difficulty, ..Setup::new(Dialect::V1) };
    let pool = runtime.block_on(LoopbackPool::start(setup))?;
    let login = Login {
        user: "bench".into(),
        password: "x".into(),
        worker: None,
        algorithms: vec![],
        hidden: vec![],
    };
    let config = Config { pools: vec![pool.endpoint()], login, timing: Timing::default() };
    let client = Client::start(config);
    for device in devices() {
        measure(&device, &client, stops)?;
    }
    Ok(())
}

fn measure(
    device: &Device,
    client: &Client<v1::Session>,
    stops: usize,
) -> Result<(), Box<dyn Error>> {
    let start = || -> Result<Engine, Box<dyn Error>> {
        let devices = std::slice::from_ref(device);
        let engine = Engine::start(devices, &client.work(), &client.shares())?;
        // The batch size settles meanwhile.
        while engine.hashes() == [0] {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(300));
        Ok(engine)
    };

    let began = Instant::now();
    let engine = start()?;
    let opened = began.elapsed();
    let (before, began) = (engine.hashes()[0], Instant::now());
    sleep(COUNTED);
    let speed = (engine.hashes()[0] - before) as f64 / began.elapsed().as_secs_f64();
    engine.stop();

    let mut took = vec![];
    for _ in 0..stops {
        let engine = start()?;
        let began = Instant::now();
        engine.stop();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("{device}: {:.3} MH/s, hashing and settled after {opened:.1?}", speed / 1e6);
    if let (Some(median), Some(longest)) = (took.get(stops / 2), took.last()) {
        println!("{device}: {stops} stops, p50 {median:.1?}, longest {longest:.1?}");
    }
    Ok(())
}
