//! One miner's connection to the pool.

use std::sync::Arc;

use tokio::select;
use tokio::sync::broadcast;

use super::miner::{Answer, Miner};
use super::{Event, Floor, Misbehaviour, Order};
use crate::lines::{Broken, Lines};

/// A connection.
pub(super) struct Seat {
    floor: Arc<Floor>,
    miner: Miner,
    lines: Lines,
}

impl Seat {
    pub(super) fn new(floor: Arc<Floor>, number: u64, lines: Lines) -> Self {
        let miner = Miner::new(Arc::clone(&floor), number);
        Self { floor, miner, lines }
    }

    /// Serves it until either side has enough.
    pub(super) async fn serve(mut self, orders: broadcast::Receiver<Order>) {
        let misbehaviour = self.floor.setup.misbehaviour;
        if let Ok(true) = misbehaviour.greet(&mut self.lines).await {
            // Why it ended is the miner's business.
            let _ = self.talk(orders).await;
            self.lines.close().await;
        }
    }

    async fn talk(&mut self, mut orders: broadcast::Receiver<Order>) -> Result<(), Broken> {
        let misbehaviour = self.floor.setup.misbehaviour;
        let mut heard = 0;
        loop {
            let answers = select! {
                line = self.lines.next() => {
                    let line = line?;
                    heard += 1;
                    if misbehaviour == Misbehaviour::HangsUpAfter(heard) {
                        return Ok(());
                    }
                    self.miner.hear(&line)
                }
                order = orders.recv() => match order {
                    Ok(Order::Renew) => self.miner.renew(),
                    Ok(Order::Redirect(redirect)) => self.miner.redirect(redirect),
                    Ok(Order::Disconnect) | Err(_) => return Ok(()),
                },
            };
            for answer in answers {
                match answer {
                    Answer::Say(line) => self.lines.send(&line).await?,
                    Answer::Judge { line, event } => {
                        // Seen before the miner can know of it.
                        self.floor.saw(event);
                        if misbehaviour != Misbehaviour::NeverJudges {
                            self.lines.send(&line).await?;
                        }
                    }
                    Answer::LoggedIn(user) => self.floor.saw(Event::LoggedIn(user)),
                }
            }
        }
    }
}
