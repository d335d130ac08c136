//! What a pool can do wrong.

use std::time::Duration;

use tokio::time::sleep;

use crate::lines::{Broken, Lines};

/// What a pool does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    None,
    /// Closes the connection at once.
    HangsUp,
    /// Closes the connection after this many lines of the miner's.
    HangsUpAfter(u32),
    /// Sends a line without an end.
    EndlessLine,
    /// Sends bytes that mean nothing.
    Garbage,
    /// Sends numbers that no machine holds.
    HugeNumbers,
    /// Sends one byte in a long while.
    SlowBytes,
    /// Takes the connection and says nothing.
    Silent,
    RefusesLogins,
    /// Takes shares and does not say what became of them.
    NeverJudges,
}

impl Misbehaviour {
    /// What it does to a new connection; false if that was all.
    pub(super) async fn greet(self, lines: &mut Lines) -> Result<bool, Broken> {
        match self {
            Self::HangsUp => Ok(false),
            Self::EndlessLine => loop {
                lines.send_raw(&[b'['; 4096]).await?;
            },
            Self::Garbage => {
                lines.send_raw(b"\x16\x03\x01\xff\xfe{]\0\n").await?;
                Ok(true)
            }
            Self::HugeNumbers => {
                let zeros = "0".repeat(5000);
                let line = format!(
                    r#"{{"id":null,"method":"mining.set_difficulty","params":[1{zeros}]}}"#
                );
                lines.send(&line).await?;
                Ok(true)
            }
            Self::SlowBytes => loop {
                lines.send_raw(b" ").await?;
                sleep(Duration::from_millis(20)).await;
            },
            Self::Silent => std::future::pending().await,
            _ => Ok(true),
        }
    }
}
