//! The engine, with a pool that verifies each share by the reference library.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daylight_randomx::{Engine, Error, Memory, Mode, Options, Pages, State};
use daylight_stratum::client::{Client, Config, Offer, Timing};
use daylight_stratum::loopback::{Dialect, Event, LoopbackPool, Setup};
use daylight_stratum::monero::{Job, Session, Work};
use daylight_stratum::{Difficulty, Login};
use tokio::sync::watch;

const LIGHT: Options =
    Options { threads: NonZeroU32::MIN.saturating_add(1), mode: Mode::Light, huge_pages: false };

/// The current seed of the pool's jobs, and the memory for it.
static VERIFIER: Mutex<([u8; 32], Option<Memory>)> = Mutex::new(([0; 32], None));

fn verify(blob: &[u8]) -> [u8; 32] {
    let mut verifier = VERIFIER.lock().expect("no test panicked with it");
    let (seed, memory) = &mut *verifier;
    let memory = memory.get_or_insert_with(|| Memory::new(LIGHT).expect("no limit"));
    let ready = memory.prepare(seed, &|_| ControlFlow::Continue(())).expect("256 MiB");
    ready.expect("it is never interrupted").hasher().expect("2 MiB").hash(blob)
}

/// A pool that wants a share in some four hashes.
async fn pool() -> LoopbackPool {
    let difficulty = Difficulty::new(4.0 / 4_294_967_296.0).expect("above 0");
    let setup = Setup { difficulty, ..Setup::new(Dialect::Monero(verify)) };
    LoopbackPool::start(setup).await.expect("a port on the loopback interface")
}

fn client(pool: &LoopbackPool) -> Client<Session> {
    let login = Login {
        user: "wallet".into(),
        password: "x".into(),
        worker: None,
        algorithms: vec![],
        hidden: vec![],
    };
    // A pool that verifies on a busy machine takes its time.
    let minutes = Duration::from_mins(5);
    let timing = Timing { login: minutes, reply: minutes, ..Timing::default() };
    Client::start(Config { pools: vec![pool.endpoint()], login, timing })
}

async fn reached(engine: &Engine, wanted: impl Fn(&State) -> bool) -> State {
    engine.state().wait_for(|state| wanted(state)).await.expect("it reports its end").clone()
}

/// Stops an engine on a thread that may block.
async fn stop(engine: Engine) -> (Vec<u64>, Duration) {
    let start = Instant::now();
    let hashes = tokio::task::spawn_blocking(|| engine.stop()).await.expect("it does not panic");
    (hashes, start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_takes_what_the_engine_finds_also_after_the_seed_changed() {
    let pool = pool().await;
    let client = client(&pool);
    let engine = Engine::start(LIGHT, &client.work(), &client.shares()).unwrap();
    reached(&engine, |state| *state == State::Hashing).await;
    assert_eq!(engine.pages(), Pages::Normal);
    let accepted = |events: &[Event], job| {
        events.iter().filter(|event| **event == Event::Accepted { job }).count()
    };
    pool.until(|events| accepted(events, 1) >= 3).await;

    let mut states = engine.state();
    states.mark_unchanged();
    let seed = [9; 32];
    VERIFIER.lock().unwrap().0 = seed;
    pool.set_seed(seed);
    let job = pool.new_job(true);
    states.wait_for(|state| matches!(state, State::Preparing { .. })).await.unwrap();
    pool.until(|events| accepted(events, job) >= 3).await;
    let all = engine.hashes();

    let (hashes, time) = stop(engine).await;
    eprintln!("stopped in {time:?} while hashing");
    assert!(time < Duration::from_secs(2), "{time:?}");
    assert!(
        hashes.iter().zip(&all).all(|(now, before)| now >= before && *before > 0),
        "{hashes:?}"
    );
    let status = client.drain(Duration::from_mins(5)).await;
    let events = pool.until(|events| events.last() == Some(&Event::Left)).await;
    let taken = events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
    assert_eq!((status.accepted, status.lost), (taken as u64, 0));
    assert!(hashes.iter().sum::<u64>() >= status.accepted);
    // Shares on their way when the seed changed are stale. No other share fails.
    let failed = |event: &Event| matches!(event, Event::Rejected(code) if *code != 21);
    assert!(!events.iter().any(failed), "{events:?}");
}

/// Makes work without a pool.
fn offer(algorithm: &str) -> Arc<Offer<Work>> {
    let job = Job {
        id: "1".into(),
        blob: vec![0; 76],
        target: 0,
        algorithm: Some(algorithm.into()),
        height: None,
        seed: Some([1; 32]),
    };
    Arc::new(Offer { connection: 1, era: 1, work: Work { job: Arc::new(job), keeps_byte: false } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_algorithm_is_refused_and_what_comes_later_is_not() {
    let pool = pool().await;
    let (work, feed) = watch::channel(None);
    let engine = Engine::start(LIGHT, &feed, &client(&pool).shares()).unwrap();
    assert_eq!(*engine.state().borrow(), State::Waiting);
    work.send_replace(Some(offer("kawpow")));
    let State::Refused(unsupported) = reached(&engine, |state| *state != State::Waiting).await
    else {
        panic!("not refused");
    };
    assert_eq!(
        unsupported.to_string(),
        "the pool's job is for kawpow, and this engine hashes only rx/0: choose a pool for rx/0"
    );
    work.send_replace(Some(offer("rx/0")));
    reached(&engine, |state| *state == State::Hashing).await;
    let before = engine.hashes();
    work.send_replace(Some(offer("kawpow")));
    reached(&engine, |state| matches!(state, State::Refused(_))).await;
    // The threads have ended by then, and start again with the memory that is there.
    assert!(engine.hashes() >= before);
    work.send_replace(Some(offer("rx/0")));
    reached(&engine, |state| *state == State::Hashing).await;
    // Without a client the engine ends.
    drop(work);
    let mut state = engine.state();
    state.wait_for(|state| *state == State::Ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_memory_that_is_being_filled() {
    let pool = pool().await;
    let shares = client(&pool).shares();
    for (mode, percent) in [(Mode::Light, 0), (Mode::Fast, 0), (Mode::Fast, 1)] {
        let (_work, feed) = watch::channel(Some(offer("rx/0")));
        let engine = Engine::start(Options { mode, ..LIGHT }, &feed, &shares).unwrap();
        reached(&engine, |state| *state == State::Preparing { percent }).await;
        let state = engine.state();
        let (hashes, time) = stop(engine).await;
        eprintln!("stopped in {time:?} while preparing {mode} mode at {percent} %");
        assert!(time < Duration::from_secs(2), "{mode} at {percent} %: {time:?}");
        assert_eq!((hashes, state.borrow().clone()), (vec![0, 0], State::Ended));
    }
}

/// Set in the processes that have little memory.
const LIMITED: &str = "DAYLIGHT_RANDOMX_TEST_LIMITED";

#[test]
fn too_little_memory_is_an_error() {
    let prepared = |memory: &mut Memory| {
        memory.prepare(&[1; 32], &|_| ControlFlow::Continue(())).map(|ready| {
            let ready = ready.expect("it is never interrupted");
            let hashers: Result<Vec<_>, _> = (0..1000).map(|_| ready.hasher()).collect();
            hashers.map(drop)
        })
    };
    let failed = |mode, part, needed| Error::Memory { mode, part, needed };
    match std::env::var(LIMITED).as_deref() {
        Ok("cache") => {
            let error = prepared(&mut Memory::new(LIGHT).unwrap()).unwrap_err();
            assert_eq!(error, failed(Mode::Light, "cache", 260));
        }
        Ok("threads") => {
            let error = prepared(&mut Memory::new(LIGHT).unwrap()).unwrap().unwrap_err();
            assert_eq!(error, failed(Mode::Light, "threads", 260));
        }
        Ok("dataset") => {
            let fast = Options { mode: Mode::Fast, ..LIGHT };
            let error = prepared(&mut Memory::new(fast).unwrap()).unwrap_err();
            assert_eq!(error, failed(Mode::Fast, "dataset", 2340));
        }
        _ => {
            // In KiB of address space: too little for the cache; enough for it, and not for a
            // thousand threads' 2 MiB; and for both, and not for the dataset.
            for (part, kib) in [("cache", 250_000), ("threads", 1_500_000), ("dataset", 1_500_000)]
            {
                let child = std::process::Command::new("sh")
                    .arg("-c")
                    .arg(format!("ulimit -v {kib}; exec \"$0\" \"$@\""))
                    .arg(std::env::current_exe().unwrap())
                    .args(["--exact", "too_little_memory_is_an_error"])
                    .env(LIMITED, part)
                    .output()
                    .unwrap();
                assert!(child.status.success(), "{part}: {child:?}");
            }
        }
    }
}
