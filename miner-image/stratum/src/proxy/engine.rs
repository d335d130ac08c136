//! One engine's connection.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::watch;

use super::{Act, Front};
use crate::Malformed;
use crate::client::{Client, Config, Status, Verdict};
use crate::lines::{Broken, Lines};

/// An engine, and the connection to a pool that is its own.
pub(super) struct Engine<F: Front> {
    lines: Lines,
    client: Client<F::Session>,
}

/// How long an engine's last shares may take to be judged after it has left.
const LEFT: Duration = Duration::from_secs(5);

impl<F: Front> Engine<F> {
    pub(super) fn new(stream: TcpStream, config: Config) -> Self {
        // A job waits for nothing; where that cannot be set, it only comes later.
        let _ = stream.set_nodelay(true);
        Self { lines: Lines::new(stream, config.timing.line), client: Client::start(config) }
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.client.status()
    }

    /// Serves it until it leaves, or all is drained. Gives what the pool said.
    pub(super) async fn serve(self, mut drain: watch::Receiver<Option<Duration>>) -> Status {
        let Self { mut lines, client } = self;
        let mut front = F::default();
        let mut judgements = FuturesUnordered::new();
        let talk = async {
            let (shares, mut work) = (client.shares(), client.work());
            // What an engine asks for is with the pool: it waits until there is one.
            let Ok(Some(mut offer)) =
                work.wait_for(Option::is_some).await.map(|offer| offer.clone())
            else {
                return Ok(());
            };
            loop {
                select! {
                    line = lines.next() => match front.hear(&line?, &offer) {
                        Ok(acts) => for act in acts {
                            match act {
                                Act::Say(line) => lines.send(&line).await?,
                                Act::Submit { id, connection, share } => {
                                    let verdict = shares.submit(connection, share);
                                    judgements.push(async { (id, verdict.await) });
                                }
                            }
                        },
                        Err(error @ Malformed::UnknownMethod(_)) => {
                            lines.send(&front.unknown(&error)).await?;
                        }
                        Err(error) => {
                            lines.send(&front.unknown(&error)).await?;
                            return Ok(());
                        }
                    },
                    Some((id, verdict)) = judgements.next() => {
                        lines.send(&front.judged(id, verdict.unwrap_or(Verdict::Lost))).await?;
                    }
                    changed = work.changed() => {
                        if changed.is_err() {
                            return Ok(());
                        }
                        let newest = work.borrow_and_update().clone();
                        // Without a pool the engine goes on with what it has, until there is one.
                        if let Some(newest) = newest {
                            offer = newest;
                            let Some(told) = front.offer(&offer) else { return Ok(()) };
                            for line in told {
                                lines.send(&line).await?;
                            }
                        }
                    }
                }
            }
        };
        let within = select! {
            result = talk => {
                // Why it left is the engine's business.
                let _: Result<(), Broken> = result;
                LEFT
            }
            within = drain.wait_for(Option::is_some) => within.ok().and_then(|within| *within).unwrap_or(LEFT),
        };
        let status = client.drain(within).await;
        while let Some((id, verdict)) = judgements.next().await {
            if lines.send(&front.judged(id, verdict.unwrap_or(Verdict::Lost))).await.is_err() {
                break;
            }
        }
        lines.close().await;
        status
    }
}
