//! Faults of a pool.

use std::time::Duration;

use tokio::time::sleep;

use crate::lines::{LineError, Lines};

/// Fault of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misbehaviour {
    #[default]
    None,
    /// Closes the connection at once.
    HangsUp,
    /// Closes the connection after this many lines from the miner.
    HangsUpAfter(u32),
    /// Sends a line without an end.
    EndlessLine,
    /// Sends bytes that mean nothing.
    Garbage,
    /// Sends numbers that no machine holds.
    HugeNumbers,
    /// Sends a byte every 20 ms, and never the end of a line.
    SlowBytes,
    /// Accepts the connection and sends nothing.
    Silent,
    RefusesLogins,
    /// Takes shares and never answers them.
    NeverJudges,
}

impl Misbehaviour {
    /// Misbehaves before the first answer on a connection. Returns false if that ends the connection.
    pub(super) async fn greet(self, lines: &mut Lines) -> Result<bool, LineError> {
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
