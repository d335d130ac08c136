//! Engines and pools over real sockets.

use std::time::{Duration, Instant};

use daylight_gpu::{Device, Engine};
use daylight_stratum::client::{Client, Config, Timing};
use daylight_stratum::loopback::{Dialect, Event, LoopbackPool, Setup};
use daylight_stratum::{Difficulty, Login, v1};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::Outcome;

/// Limit for anything on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A pool, with a client that is logged in.
struct Site {
    runtime: Runtime,
    pool: LoopbackPool,
    client: Client<v1::Session>,
}

impl Site {
    fn new(difficulty: f64) -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = Runtime::new()?;
        let difficulty = Difficulty::new(difficulty).ok_or("no difficulty")?;
        let setup = Setup { difficulty, ..Setup::new(Dialect::V1) };
        let pool = runtime.block_on(LoopbackPool::start(setup))?;
        let login = Login {
            user: "wallet.worker".into(),
            password: "x".into(),
            worker: None,
            algorithms: vec![],
            hidden: vec![],
        };
        let config = Config { pools: vec![pool.endpoint()], login, timing: Timing::default() };
        let client = runtime.block_on(async { Client::start(config) });
        Ok(Self { runtime, pool, client })
    }

    fn engine(&self, devices: &[Device]) -> std::io::Result<Engine> {
        let _within = self.runtime.enter();
        Engine::start(devices, &self.client.work(), &self.client.shares())
    }

    /// Waits for `count` accepted shares of a job.
    fn accepted(&self, job: u64, count: usize) -> Outcome {
        let enough = |events: &[Event]| {
            events.iter().filter(|event| **event == Event::Accepted { job }).count() >= count
        };
        self.runtime.block_on(async { timeout(PATIENCE, self.pool.until(enough)).await })?;
        Ok(())
    }

    /// Ends it, and checks that all shares were accepted, except those on their way when the job changed.
    fn end(self) -> Outcome {
        let Self { runtime, pool, client } = self;
        let (status, events) = runtime.block_on(async {
            let status = client.drain(PATIENCE).await;
            let left = |events: &[Event]| events.last() == Some(&Event::Left);
            (status, timeout(PATIENCE, pool.until(left)).await)
        });
        let events = events?;
        let taken = events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
        assert_eq!((status.accepted, status.lost), (taken as u64, 0));
        let wrong = |event: &&Event| matches!(event, Event::Rejected(code) if *code != 21);
        assert_eq!(events.iter().find(wrong), None);
        Ok(())
    }
}

/// Waits until all threads hash.
fn hashing(engine: &Engine) -> Outcome {
    let began = Instant::now();
    while engine.hashes().contains(&0) {
        if began.elapsed() > PATIENCE {
            return Err("a device does not hash".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub(crate) fn follows_a_pool(device: &Device) -> Outcome {
    let site = Site::new(1e-5)?;
    let engine = site.engine(std::slice::from_ref(device))?;
    site.accepted(1, 10)?;
    // Five times the difficulty from the next job on, which makes earlier jobs stale.
    site.pool.set_difficulty(Difficulty::new(5e-5).ok_or("no difficulty")?);
    let job = site.pool.new_job(true);
    site.accepted(job, 5)?;
    // A job that leaves earlier jobs valid.
    let job = site.pool.new_job(false);
    site.accepted(job, 5)?;
    assert_eq!(*engine.lost().borrow(), None);
    let before = engine.hashes();
    let hashes = engine.stop();
    assert!(hashes[0] >= before[0] && before[0] > 0, "{before:?}, then {hashes:?}");
    site.end()
}

pub(crate) fn two_threads(device: &Device) -> Outcome {
    let site = Site::new(1e-5)?;
    // As if there were two devices. The pool rejects what comes twice.
    let engine = site.engine(&[device.clone(), device.clone()])?;
    hashing(&engine)?;
    site.accepted(1, 30)?;
    assert_eq!(engine.stop().len(), 2);
    site.end()
}

pub(crate) fn stops(device: &Device) -> Outcome {
    let site = Site::new(1e9)?;
    let engine = site.engine(std::slice::from_ref(device))?;
    hashing(&engine)?;
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    engine.stop();
    // Two batches are 40 ms; the rest is for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    site.end()
}

pub(crate) fn stops_idle(device: &Device) -> Outcome {
    // The pool is gone before it has sent anything.
    let site = Site::new(1e9)?;
    let Site { runtime, pool, client } = site;
    drop(pool);
    let engine = {
        let _within = runtime.enter();
        Engine::start(std::slice::from_ref(device), &client.work(), &client.shares())?
    };
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(*engine.lost().borrow(), None);
    assert_eq!(engine.stop(), [0]);
    Ok(())
}

pub(crate) fn loses_a_device(device: &Device) -> Outcome {
    let site = Site::new(1e-5)?;
    let engine = site.engine(&[device.clone(), device.clone()])?;
    site.accepted(1, 5)?;
    engine.lose();
    let mut lost = engine.lost();
    let why = site.runtime.block_on(async {
        timeout(PATIENCE, lost.wait_for(Option::is_some))
            .await
            .map(|why| why.map(|why| why.clone()))
    })??;
    let why = why.ok_or("no reason")?.to_string();
    assert!(why.starts_with(&format!("{device} is lost: ")), "{why}");
    assert!(!why.contains('\n') && !why.ends_with(": "), "{why}");
    assert!(engine.stop().iter().sum::<u64>() > 0);
    // Shares found before the loss still count.
    site.end()
}
