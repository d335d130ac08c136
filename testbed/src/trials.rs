//! The harness of all tests on control planes.
//!
//! A test is an async function that takes the [`Fixture`] it runs on, or nothing, and registers
//! itself:
//!
//! ```text
//! #[apply(trial!)]
//! async fn a_pod_runs(cluster: &Cluster) -> Outcome { … }
//!
//! fn main() -> ExitCode {
//!     Trials::registered().run()
//! }
//! ```
//!
//! The command line is libtest's: `cargo test --test e2e -- reclaim`, `--list`, `--ignored`. Tests
//! run one after the other unless the binary allows more with [`Trials::at_once`]. A panic or an
//! `Err` fails a test; an [`Error::NoRealNode`] or a [`Skip`] marks it as ignored and prints the
//! reason.

use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
pub use inventory;
use libtest_mimic::{Arguments, Completion, Failed};
pub use macro_rules_attribute::apply;
use tokio::runtime::Runtime;

pub use crate::trial;
use crate::{ControlPlane, Error, Options, Result};

/// The result of a test, or of a part of one.
pub type Outcome<T = ()> = std::result::Result<T, Box<dyn StdError>>;

/// A future that runs on one thread.
pub type Pending<T> = Pin<Box<dyn Future<Output = T>>>;

/// The longest time for one test, several times what the longest of them takes.
const LIMIT: Duration = Duration::from_mins(15);

/// Ends a test that cannot run on this machine, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

/// What a test runs on.
pub trait Fixture: Sized {
    /// Runs `test` on a fixture. After a failure, the next test gets another one.
    fn lend(
        trial: &Trial,
        test: impl AsyncFnOnce(&mut Self) -> Outcome,
    ) -> impl Future<Output = Outcome>;
}

/// A fixture that the tests of a binary share, one for each test that runs at once: started when a
/// test finds none idle, and ended after the last test.
pub struct Shared<T: 'static> {
    start: fn() -> Pending<Outcome<T>>,
    idle: Mutex<Vec<T>>,
    failure: OnceLock<String>,
    ends: Once,
}

/// What ends each shared fixture that was started.
static ENDS: Mutex<Vec<Box<dyn Fn() + Send>>> = Mutex::new(Vec::new());

/// What a panicking test left locked is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Shared<T> {
    /// A fixture that `start` starts when it is needed.
    pub const fn new(start: fn() -> Pending<Outcome<T>>) -> Self {
        Self { start, idle: Mutex::new(Vec::new()), failure: OnceLock::new(), ends: Once::new() }
    }

    /// Runs a test on a fixture that no other test has meanwhile. One on which a test failed is ended,
    /// since what that test left there is not for the next. Where none can be started, each test gets
    /// the same error.
    pub async fn lend(&'static self, test: impl AsyncFnOnce(&mut T) -> Outcome) -> Outcome {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone().into());
        }
        let idle = lock(&self.idle).pop();
        let mut fixture = match idle {
            Some(fixture) => fixture,
            None => caught((self.start)())
                .await
                .map_err(|error| self.failure.get_or_init(|| error.to_string()).clone())?,
        };
        self.ends.call_once(|| lock(&ENDS).push(Box::new(|| lock(&self.idle).clear())));
        test(&mut fixture).await?;
        lock(&self.idle).push(fixture);
        Ok(())
    }
}

/// Ends what is shared and idle. Not to be called on a runtime's threads.
fn end_shared() {
    lock(&ENDS).iter().for_each(|end| end());
}

/// How to start [`CONTROL_PLANE`], where [`Trials::sharing`] was called.
static START: OnceLock<fn() -> Pending<Outcome<ControlPlane>>> = OnceLock::new();

/// The control plane that tests share which take a `&ControlPlane`.
static CONTROL_PLANE: Shared<ControlPlane> = Shared::new(|| match START.get() {
    Some(start) => start(),
    None => Box::pin(async { Ok(ControlPlane::start(Options::full()).await?) }),
});

impl Fixture for ControlPlane {
    async fn lend(_: &Trial, test: impl AsyncFnOnce(&mut Self) -> Outcome) -> Outcome {
        CONTROL_PLANE.lend(test).await
    }
}

/// Runs a future, and turns a panic in it into an error with the panic's message.
pub async fn caught<T>(future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    AssertUnwindSafe(future).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "it panicked".to_owned()).into())
    })
}

/// A registered test; made by [`trial!`](crate::trial).
#[must_use]
pub struct Trial {
    module: &'static str,
    name: &'static str,
    line: u32,
    ignored: bool,
    alone: bool,
    run: fn(&'static Trial) -> Pending<Outcome>,
}

inventory::collect!(Trial);

impl Trial {
    /// A test with its place in the source.
    #[doc(hidden)]
    pub const fn new(
        (module, name, line): (&'static str, &'static str, u32),
        run: fn(&'static Trial) -> Pending<Outcome>,
    ) -> Self {
        Self { module, name, line, ignored: false, alone: false, run }
    }

    /// Leaves the test out unless ignored tests are requested.
    #[doc(hidden)]
    pub const fn ignored(self) -> Self {
        Self { ignored: true, ..self }
    }

    /// Marks a test that takes no fixture, but starts what it needs.
    #[doc(hidden)]
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The test's module within its binary, empty for the root.
    fn module(&self) -> &'static str {
        self.module.split_once("::").map_or("", |(_, module)| module)
    }

    /// Its name on the command line: `module::function`.
    pub fn name(&self) -> String {
        match self.module() {
            "" => self.name.to_owned(),
            module => format!("{module}::{}", self.name),
        }
    }
}

/// Registers the async function below it as a test of this binary: `#[apply(trial!)]`.
///
/// The function takes `&Fixture`, `&mut Fixture` or nothing, and returns nothing or an
/// [`Outcome`](crate::trials::Outcome). With `#[ignore = "reason"]` it only runs when asked for by
/// `--ignored`.
#[macro_export]
macro_rules! trial {
    (@submit $name:ident ($($option:ident)*) $run:expr) => {
        $crate::trials::inventory::submit! {
            $crate::trials::Trial::new((module_path!(), stringify!($name), line!()), $run)
                $(.$option())*
        }
    };
    (@test ($($option:ident)*)
        $(#[$meta:meta])* $vis:vis async fn $name:ident() $(-> $Outcome:ty)? $body:block
    ) => {
        $(#[$meta])* $vis async fn $name() $(-> $Outcome)? $body
        $crate::trial! { @submit $name ($($option)* alone) |_| Box::pin(async {
            $crate::trials::IntoOutcome::into_outcome($name().await)
        })}
    };
    (@test ($($option:ident)*)
        $(#[$meta:meta])* $vis:vis async fn $name:ident($fixture:ident: &mut $Fixture:ty)
        $(-> $Outcome:ty)? $body:block
    ) => {
        $(#[$meta])* $vis async fn $name($fixture: &mut $Fixture) $(-> $Outcome)? $body
        $crate::trial! { @submit $name ($($option)*) |trial| Box::pin(
            <$Fixture as $crate::trials::Fixture>::lend(trial, async |fixture: &mut $Fixture| {
                $crate::trials::IntoOutcome::into_outcome($name(fixture).await)
            })
        )}
    };
    (@test ($($option:ident)*)
        $(#[$meta:meta])* $vis:vis async fn $name:ident($fixture:ident: &$Fixture:ty)
        $(-> $Outcome:ty)? $body:block
    ) => {
        $(#[$meta])* $vis async fn $name($fixture: &$Fixture) $(-> $Outcome)? $body
        $crate::trial! { @submit $name ($($option)*) |trial| Box::pin(
            <$Fixture as $crate::trials::Fixture>::lend(trial, async |fixture: &mut $Fixture| {
                $crate::trials::IntoOutcome::into_outcome($name(fixture).await)
            })
        )}
    };
    ($(#[doc = $doc:expr])* #[ignore = $why:literal] $($function:tt)*) => {
        $crate::trial! { @test (ignored) $(#[doc = $doc])* $($function)* }
    };
    ($($function:tt)*) => { $crate::trial! { @test () $($function)* } };
}

/// What a test may return.
pub trait IntoOutcome {
    #[doc(hidden)]
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Ok(self)
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// The tests of a binary, and how they are run.
#[must_use]
pub struct Trials {
    order: &'static [&'static str],
    prepare: Box<dyn FnOnce() -> Result<()>>,
    skips: fn(&(dyn StdError + 'static)) -> bool,
    limit: Duration,
    at_once: usize,
    cases: Vec<(String, Test)>,
}

/// Begins a test.
type Test = Box<dyn FnOnce() -> Pending<Outcome> + Send>;

impl Trials {
    /// The registered tests, by module and line. Unless several run at once, those that take no
    /// fixture run last and have the machine to themselves.
    pub fn registered() -> Self {
        Self {
            order: &[],
            prepare: Box::new(|| Ok(())),
            skips: |_| false,
            limit: LIMIT,
            at_once: 1,
            cases: Vec::new(),
        }
    }

    /// Runs the tests of these modules first, in this order.
    pub fn in_order(self, modules: &'static [&'static str]) -> Self {
        Self { order: modules, ..self }
    }

    /// Calls `prepare` before any thread is started, unless tests are only listed. Its error is the
    /// result of each test.
    pub fn after(self, prepare: impl FnOnce() -> Result<()> + 'static) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }

    /// Starts the control plane that tests share in this way.
    pub fn sharing(self, start: fn() -> Pending<Outcome<ControlPlane>>) -> Self {
        START.get_or_init(|| start);
        self
    }

    /// Marks tests as ignored whose error satisfies this, too.
    pub fn skipping(self, skips: fn(&(dyn StdError + 'static)) -> bool) -> Self {
        Self { skips, ..self }
    }

    /// The longest time for one test, instead of 15 minutes.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Runs this many tests at once, each on a fixture of its own, instead of one: for tests that
    /// mostly wait. `--test-threads` asks for fewer.
    pub fn at_once(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    /// Adds a test on the shared control plane that is not a function, such as a case of a table.
    pub fn case(
        mut self,
        name: String,
        test: impl AsyncFnOnce(&ControlPlane) -> Outcome + Send + 'static,
    ) -> Self {
        let test = || -> Pending<Outcome> {
            let test = async move |control_plane: &mut ControlPlane| test(control_plane).await;
            Box::pin(CONTROL_PLANE.lend(test))
        };
        self.cases.push((name, Box::new(test)));
        self
    }

    /// Runs the tests that the command line selects.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads =
            Some(arguments.test_threads.unwrap_or(self.at_once).min(self.at_once));
        let prepared = if arguments.list { Ok(()) } else { (self.prepare)() };
        let runtime = match Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("no test can run, because threads cannot be started: {error}");
                return ExitCode::FAILURE;
            }
        };
        let runner = Arc::new(Runner {
            prepared,
            runtime,
            skips: self.skips,
            limit: self.limit,
            at_once: self.at_once,
        });

        let mut registered: Vec<&Trial> = inventory::iter::<Trial>().collect();
        let place = |module| self.order.iter().position(|one| *one == module);
        registered.sort_by_key(|trial| {
            let place = place(trial.module()).unwrap_or(self.order.len());
            (trial.alone && self.at_once == 1, place, trial.module(), trial.line)
        });
        let registered = registered.into_iter().map(|trial| {
            let begin = move || (trial.run)(trial);
            runner
                .trial(trial.name(), trial.alone, Box::new(begin))
                .with_ignored_flag(trial.ignored)
        });
        let cases = self.cases.into_iter().map(|(name, test)| runner.trial(name, false, test));
        let tests = registered.chain(cases).collect();

        let conclusion = libtest_mimic::run(&arguments, tests);
        end_shared();
        conclusion.exit_code()
    }
}

/// What the tests of a binary have in common.
struct Runner {
    prepared: Result<()>,
    runtime: Runtime,
    skips: fn(&(dyn StdError + 'static)) -> bool,
    limit: Duration,
    at_once: usize,
}

impl Runner {
    fn trial(self: &Arc<Self>, name: String, alone: bool, test: Test) -> libtest_mimic::Trial {
        let runner = self.clone();
        libtest_mimic::Trial::ignorable_test(name, move || {
            if alone && runner.at_once == 1 {
                end_shared();
            }
            runner.run(test)
        })
    }

    fn run(&self, test: Test) -> std::result::Result<Completion, Failed> {
        if let Err(error) = &self.prepared {
            return self.conclude(error);
        }
        let test = test();
        let limited = async { tokio::time::timeout(self.limit, test).await };
        match self.runtime.block_on(limited) {
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(error)) => self.conclude(&*error),
            Err(_) => Err(format!("it did not end within {} s", self.limit.as_secs()).into()),
        }
    }

    /// The result of a test that ended with an error: it cannot run on this machine, or it failed.
    fn conclude(
        &self,
        error: &(dyn StdError + 'static),
    ) -> std::result::Result<Completion, Failed> {
        let missing = matches!(error.downcast_ref(), Some(Error::NoRealNode { .. }));
        if missing || error.is::<Skip>() || (self.skips)(error) {
            Ok(Completion::ignored_with(error))
        } else {
            Err(Failed::from(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{Outcome, Shared, Trial, caught};

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let number = 7;
        let outcome: Outcome = caught(async { panic!("number {number}") }).await;
        assert_eq!(outcome.unwrap_err().to_string(), "number 7");
        let outcome: Outcome = caught(async { panic!("text") }).await;
        assert_eq!(outcome.unwrap_err().to_string(), "text");
        assert_eq!(caught(async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_fixture_on_which_a_test_failed_is_not_lent_again() {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SHARED: Shared<u32> =
            Shared::new(|| Box::pin(async { Ok(COUNT.fetch_add(1, Ordering::Relaxed)) }));
        async fn lend(test: fn() -> Outcome) -> (u32, bool) {
            let mut number = u32::MAX;
            let lent = SHARED.lend(async |fixture| {
                number = *fixture;
                test()
            });
            let failed = caught(lent).await.is_err();
            (number, failed)
        }
        let outcomes: [fn() -> Outcome; 4] =
            [|| Ok(()), || Err("an error".into()), || panic!("a panic"), || Ok(())];
        let mut seen = Vec::new();
        for outcome in outcomes {
            seen.push(lend(outcome).await);
        }
        assert_eq!(seen, [(0, false), (0, true), (1, true), (2, false)]);
    }

    #[test]
    fn a_trial_is_named_by_its_module_and_function() {
        let name = |module| Trial::new((module, "holds", 1), |_| Box::pin(async { Ok(()) })).name();
        assert_eq!((name("e2e::caps"), name("e2e")), ("caps::holds".into(), "holds".into()));
    }
}
