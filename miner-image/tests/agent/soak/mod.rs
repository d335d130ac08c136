//! A soak: hours with a pool, and engines, that misbehave at random.
//!
//! Three agents run at the same time, each with two addresses of a pool of its own: one with a built-in
//! engine, and one in each dialect with the stand-in behind the agent's port. Afterwards the agents'
//! books must be those of the pools, and neither memory nor descriptors nor connections may have grown.

mod books;
mod observed;
mod pool;
pub(crate) mod random;
mod shapes;

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::run::{ENGINE, Run, Site};
use books::Counted;
use observed::Sample;
use pool::{Phase, Pool, WALLET};
use shapes::Dialect;

/// Time between two samples.
const SAMPLE: Duration = Duration::from_secs(10);

/// Time at the end in which the pool behaves.
const CALM: Duration = Duration::from_secs(90);

/// Time after that without shares. Longer than a pool has for a verdict, shorter than an engine may go
/// without a share.
const QUIET: Duration = Duration::from_secs(40);

/// Growth of memory that is no leak: what the allocator keeps after a peak.
const GROWTH: f64 = 1.15;

/// Descriptors, and sockets, that an agent may have more than at the start: an engine more, a probe.
const MORE: usize = 8;

/// An agent with its pool.
struct Subject {
    name: &'static str,
    pool: Arc<Pool>,
    run: Run,
    samples: Vec<Sample>,
    faults: Vec<String>,
}

/// Runs for two hours unless `SOAK_SECONDS` is set; `SOAK_SEED` chooses the faults.
#[test]
#[ignore = "takes two hours"]
fn soak() {
    let variable =
        |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let time = Duration::from_secs(variable("SOAK_SECONDS").unwrap_or(7200));
    let seed = variable("SOAK_SEED").unwrap_or(1);
    println!("soak of {} s, seed {seed}", time.as_secs());
    let runtime = Runtime::new().expect("a runtime");
    let (phase, seen) = watch::channel(Phase::Misbehaving);
    let mut subjects = [
        ("sha256d", Dialect::V1, true),
        ("stratum-v1", Dialect::V1, false),
        ("monero", Dialect::Monero, false),
    ]
    .map(|(name, dialect, built_in)| {
        Subject::start(
            &runtime,
            name,
            Pool::new(dialect, seed, built_in, seen.clone()),
            built_in,
            seed,
        )
    });
    let began = Instant::now();
    let (calm, quiet) = (time.saturating_sub(CALM + QUIET), time.saturating_sub(QUIET));
    let mut reported = began;
    while began.elapsed() < time {
        sleep(SAMPLE);
        let now = match began.elapsed() {
            passed if passed >= quiet => Phase::Quiet,
            passed if passed >= calm => Phase::Calm,
            _ => Phase::Misbehaving,
        };
        phase.send_if_modified(|phase| std::mem::replace(phase, now) != now);
        subjects.iter_mut().for_each(Subject::sample);
        if reported.elapsed() >= Duration::from_mins(5) {
            reported = Instant::now();
            println!("after {} s:", began.elapsed().as_secs());
            subjects.iter().for_each(|subject| println!("  {}", subject.line()));
        }
    }
    let mut faults = vec![];
    for subject in subjects {
        let (report, found) = subject.finish();
        println!("{report}");
        faults.extend(found);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

impl Subject {
    fn start(runtime: &Runtime, name: &'static str, pool: Pool, built_in: bool, seed: u64) -> Self {
        let pool = Arc::new(pool);
        let endpoints = [1, 2].map(|user| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
            let port = listener.local_addr().expect("an address").port();
            runtime.spawn(Arc::clone(&pool).serve(listener, user));
            format!("127.0.0.1:{port}")
        });
        let mut site = if built_in {
            Site::built_in("sha256d", &endpoints.join("\", \""))
        } else {
            let seed = seed.to_string();
            let mut site = Site::with_command(&[
                ENGINE,
                "--mine",
                "{host}:{port}",
                "--dialect",
                name,
                "--seed",
                &seed,
                "--starts",
                "DIR/starts",
            ]);
            let wallet = site.file("wallet", WALLET);
            site.add(&format!("pool.wallet_file = \"{}\"", wallet.display()));
            site.add(&format!("pool.endpoints = {endpoints:?}\npool.protocol = \"{name}\""));
            site.add("engine.start_within = \"45s\"\nengine.stalled_after = \"45s\"");
            site
        };
        site.add("restart.limit = 1000000\nrestart.longest = \"2s\"\ndrain.margin = \"4s\"");
        Self { name, pool, run: site.run(), samples: vec![], faults: vec![] }
    }

    fn sample(&mut self) {
        let began = Instant::now();
        let (code, _) = self.run.get("/livez");
        let probe = began.elapsed();
        if code != 200 {
            self.faults.push(format!("{}: /livez answered {code} after {probe:.1?}", self.name));
        }
        self.samples.push(Sample { probe, ..Sample::of(self.run.pid()) });
    }

    fn line(&self) -> String {
        let sample = self.samples.last().copied().unwrap_or_default();
        let books = self.pool.books();
        format!(
            "{}: {} kB resident, {} kB data, {} descriptors, {} connections, {} logins, {} shares, {} wrong, open at the pool {}",
            self.name,
            sample.resident,
            sample.data,
            sample.descriptors,
            sample.connected,
            books.logins,
            books.shares,
            books.wrong.len(),
            books.open,
        )
    }

    /// Stops the agent. Returns a report, and what is wrong.
    fn finish(mut self) -> (String, Vec<String>) {
        let (_, status) = self.run.get("/status");
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        let count = |name: &str| status[name].as_u64().unwrap_or(u64::MAX);
        let counted = Counted {
            accepted: count("sharesAccepted"),
            rejected: count("sharesRejected"),
            stale: count("sharesStale"),
            lost: count("sharesLost"),
        };
        let code = self.run.stop();
        let record = self.run.record();
        let log = self.run.log();
        let mut report = self.report(counted, &status);
        let books = self.pool.books();
        let name = self.name;
        let mut faults = std::mem::take(&mut self.faults);
        faults.extend(books.differ(counted).into_iter().map(|what| format!("{name}: {what}")));
        let unpaid = counted.rejected + counted.stale + counted.lost;
        let recorded = (&record["sharesAccepted"], &record["sharesRejected"]);
        if recorded != (&counted.accepted.to_string().into(), &unpaid.to_string().into()) {
            faults.push(format!("{name}: the record has {recorded:?}, /status {counted:?}"));
        }
        if (code, &record["reason"]) != (0, &"Drained".into()) {
            faults.push(format!("{name}: exit code {code}, {}", record["reason"]));
        }
        if log.contains(WALLET) || status.to_string().contains(WALLET) {
            faults.push(format!("{name}: the wallet is in the log or in /status"));
        }
        if log.contains("panicked") {
            faults.push(format!("{name}: a thread panicked"));
        }
        faults.extend(books.wrong.iter().take(5).map(|line| format!("{name}: {line}")));
        faults.extend(self.growth());
        let _ = writeln!(report, "  faults: {}", faults.len());
        (report, faults)
    }

    /// Compares the first quarter with the last, and with the end, when only one engine is left.
    fn growth(&self) -> Vec<String> {
        let quarter = self.samples.len() / 4;
        let (first, last) =
            (&self.samples[..quarter], &self.samples[self.samples.len() - quarter..]);
        let most =
            |of: &[Sample], what: fn(&Sample) -> usize| of.iter().map(what).max().unwrap_or(0);
        let mut faults = vec![];
        for (name, what) in [
            ("kB resident", (|sample| sample.resident as usize) as fn(&Sample) -> usize),
            ("kB of data", |sample| sample.data as usize),
        ] {
            let (before, after) = (most(first, what), most(last, what));
            if after as f64 > before as f64 * GROWTH {
                faults.push(format!("{}: {before} {name} have become {after}", self.name));
            }
        }
        for (name, what) in [
            ("descriptors", (|sample| sample.descriptors) as fn(&Sample) -> usize),
            ("connections", |sample| sample.connected),
            ("threads", |sample| sample.threads as usize),
        ] {
            let (before, after) = (most(first, what), most(last, what));
            if after > before + MORE {
                faults.push(format!("{}: {before} {name} have become {after}", self.name));
            }
        }
        let left = self.samples.last().map_or(0, |sample| sample.close_wait);
        if left > 0 {
            faults.push(format!("{}: {left} sockets are not closed", self.name));
        }
        faults
    }

    fn report(&self, counted: Counted, status: &Value) -> String {
        let mut report = format!("{}:\n", self.name);
        let quarter = (self.samples.len() / 4).max(1);
        report += "  quarter | kB resident, mean and most | kB data, most | descriptors | connections | CLOSE_WAIT | threads | slowest probe\n";
        for (number, samples) in (1..).zip(self.samples.chunks(quarter)) {
            let most = |what: fn(&Sample) -> u64| samples.iter().map(what).max().unwrap_or(0);
            let mean =
                samples.iter().map(|sample| sample.resident).sum::<u64>() / samples.len() as u64;
            let _ = writeln!(
                report,
                "  {number} | {mean} {} | {} | {} | {} | {} | {} | {} ms",
                most(|sample| sample.resident),
                most(|sample| sample.data),
                most(|sample| sample.descriptors as u64),
                most(|sample| sample.connected as u64),
                most(|sample| sample.close_wait as u64),
                most(|sample| sample.threads),
                most(|sample| sample.probe.as_millis() as u64),
            );
        }
        let books = self.pool.books();
        let _ = writeln!(
            report,
            "  pool: {} connections, {} logins, {} shares, {:?}, {} unanswered, doubtful {:?}, {} wrong, {} pongs",
            books.connections,
            books.logins,
            books.shares,
            books.answered,
            books.unanswered,
            books.doubtful,
            books.wrong.len(),
            books.pongs,
        );
        let _ = writeln!(report, "  agent: {counted:?}, restarts {}", status["restarts"]);
        let _ = writeln!(report, "  misbehaved: {:?}", books.misbehaved);
        report
    }
}
