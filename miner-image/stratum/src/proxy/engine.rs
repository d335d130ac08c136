//! The connection of one engine.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::watch;

use super::{Action, Frontend};
use crate::Malformed;
use crate::client::{Client, Config, Status, Verdict};
use crate::lines::{LineError, Lines};

/// An engine with its own connection to a pool.
pub(super) struct Engine<F: Frontend> {
    lines: Lines,
    client: Client<F::Session>,
}

/// Limit for the verdicts on an engine's last shares after it has left.
const LEFT: Duration = Duration::from_secs(5);

impl<F: Frontend> Engine<F> {
    pub(super) fn new(stream: TcpStream, config: Config) -> Self {
        // A job must not wait for more data; without the option it only arrives later.
        let _ = stream.set_nodelay(true);
        Self { lines: Lines::new(stream, config.timing.line), client: Client::start(config) }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.client.status()
    }

    /// Serves it until it leaves, or the proxy is drained. Returns the pool's verdicts.
    pub(super) async fn serve(self, mut drain: watch::Receiver<Option<Duration>>) -> Status {
        let Self { mut lines, client } = self;
        let mut frontend = F::default();
        let mut judgements = FuturesUnordered::new();
        let talk = async {
            let (shares, mut work) = (client.shares(), client.work());
            // The answers to a login hold the pool's extranonce and first job, so the engine waits until
            // the pool has sent them.
            let Ok(Some(mut offer)) =
                work.wait_for(Option::is_some).await.map(|offer| offer.clone())
            else {
                return Ok(());
            };
            loop {
                select! {
                    line = lines.next() => match frontend.receive(&line?, &offer) {
                        Ok(actions) => for action in actions {
                            match action {
                                Action::Send(line) => lines.send(&line).await?,
                                Action::Submit { id, connection, share } => {
                                    let verdict = shares.submit(connection, share);
                                    judgements.push(async { (id, verdict.await) });
                                }
                            }
                        },
                        // An extension, which the engine can do without.
                        Err(error @ Malformed::UnknownMethod(_)) => {
                            lines.send(&frontend.error(&error)).await?;
                        }
                        Err(error) => {
                            lines.send(&frontend.error(&error)).await?;
                            return Ok(());
                        }
                    },
                    Some((id, verdict)) = judgements.next() => {
                        lines.send(&frontend.verdict(id, verdict.unwrap_or(Verdict::Lost))).await?;
                    }
                    changed = work.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        let newest = work.borrow_and_update().clone();
                        // During a failover there is no work. The engine keeps the old job, which costs
                        // less than to disconnect it: shares for it are counted as stale.
                        if let Some(newest) = newest {
                            offer = newest;
                            let Some(job) = frontend.offer(&offer) else { return Ok(()) };
                            for line in job {
                                lines.send(&line).await?;
                            }
                        }
                    }
                }
            }
        };
        let within = select! {
            result = talk => {
                // Why an engine left does not matter: its shares are still to be judged.
                let _: Result<(), LineError> = result;
                LEFT
            }
            within = drain.wait_for(Option::is_some) => within.ok().and_then(|within| *within).unwrap_or(LEFT),
        };
        let status = client.drain(within).await;
        while let Some((id, verdict)) = judgements.next().await {
            if lines.send(&frontend.verdict(id, verdict.unwrap_or(Verdict::Lost))).await.is_err() {
                break;
            }
        }
        lines.close().await;
        status
    }
}
