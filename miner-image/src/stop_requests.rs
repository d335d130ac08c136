//! Requests to end the run: signals of the kubelet, the lapse of the lease, and signs in the engine's
//! log.

use std::future::pending;
use std::io;

use daylight_agent_api::Outcome;
use nix::sys::signal::{SigSet, Signal as Held};
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::mpsc;

use crate::config;
use crate::lease::Lease;
use crate::process::Processes;
use crate::status::Shared;

/// All sources of requests to end the run.
pub(crate) struct StopRequests {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
    signs: mpsc::Receiver<Outcome>,
    lease: Option<Lease>,
    shared: Shared,
}

/// Signals that are held until there are handlers.
pub(crate) struct HeldSignals(Option<SigSet>);

impl StopRequests {
    /// Holds back the signals that end the run until [`StopRequests::new`] listens for them.
    pub(crate) fn hold_signals() -> HeldSignals {
        let held: SigSet = [Held::SIGTERM, Held::SIGINT].into_iter().collect();
        HeldSignals(held.thread_block().ok().map(|()| held))
    }

    /// Starts to listen. `signs` are those found in the engine's log.
    pub(crate) fn new(
        lease: Option<config::Lease>,
        signs: mpsc::Receiver<Outcome>,
        shared: Shared,
        held: &HeldSignals,
    ) -> io::Result<Self> {
        let this = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            signs,
            lease: lease.map(Lease::new),
            shared,
        };
        // Only now, so that one that has arrived meanwhile is taken.
        if let HeldSignals(Some(held)) = held {
            held.thread_unblock()?;
        }
        Ok(this)
    }

    /// Waits for a request; returns how the run ends, and why. Meanwhile passes the signals that are
    /// meant for the engine, such as `SIGHUP`, to `engine`.
    pub(crate) async fn next(&mut self, engine: Option<Pid>) -> (Outcome, &'static str) {
        loop {
            let lapse = async {
                match &mut self.lease {
                    Some(lease) => lease.lapse(&self.shared).await,
                    None => pending().await,
                }
            };
            let signal = tokio::select! {
                _ = self.terminate.recv() => return (Outcome::Drained, "SIGTERM"),
                _ = self.interrupt.recv() => return (Outcome::Drained, "SIGINT"),
                () = lapse => return (Outcome::LeaseLapsed, "the lease was not renewed in time"),
                Some(outcome) = self.signs.recv() => return (outcome, match outcome {
                    Outcome::LoginRefused => "its log says that the login was refused",
                    _ => "its log says that a device is lost",
                }),
                _ = self.hangup.recv() => Signal::HUP,
                _ = self.quit.recv() => Signal::QUIT,
                _ = self.user1.recv() => Signal::USR1,
                _ = self.user2.recv() => Signal::USR2,
            };
            if let Some(engine) = engine {
                Processes::pass(engine, signal);
            }
        }
    }

    /// Returns a sign that was found in the log and that [`StopRequests::next`] has not returned.
    pub(crate) fn sign(&mut self) -> Option<Outcome> {
        self.signs.try_recv().ok()
    }
}
