//! One connection, logged in.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Config, Fault};
use crate::lines::Lines;
use crate::v1::Redirect;
use crate::{Endpoint, Heard, Session, Tls, tls};

/// A connection whose pool let the worker in.
pub(super) struct Connection<S: Session> {
    pub(super) lines: Lines,
    pub(super) session: S,
    /// What was heard with the login and is still to be acted on.
    pub(super) heard: Vec<Heard<S::Work>>,
    pub(super) latency: Duration,
}

/// What comes of a try to log in.
pub(super) enum Opened<S: Session> {
    Connection(Box<Connection<S>>),
    Moved(Redirect),
}

/// Connects and logs in, within the time for it.
pub(super) async fn open<S: Session>(
    endpoint: Endpoint,
    config: Config,
) -> Result<Opened<S>, Fault> {
    let pool = endpoint.to_string();
    match timeout(config.timing.login, login(&endpoint, &config)).await {
        Ok(result) => result,
        Err(_) => Err(Fault::Unreachable { pool, why: "the login took too long".into() }),
    }
}

async fn login<S: Session>(endpoint: &Endpoint, config: &Config) -> Result<Opened<S>, Fault> {
    let pool = || endpoint.to_string();
    let unreachable =
        |error: std::io::Error| Fault::Unreachable { pool: pool(), why: error.to_string() };
    let lost = |why: crate::Broken| Fault::Lost { pool: pool(), why: why.to_string() };
    let mut lines = connect(endpoint, config.timing.line).await.map_err(unreachable)?;
    let (mut session, opening) = S::open(&config.login);
    for line in opening {
        lines.send(&line).await.map_err(lost)?;
    }
    let (asked, mut latency) = (Instant::now(), None);
    loop {
        let line = lines.next().await.map_err(lost)?;
        let latency = *latency.get_or_insert_with(|| asked.elapsed());
        let mut heard = session
            .receive(&line)
            .map_err(|error| Fault::Malformed { pool: pool(), error })?
            .into_iter();
        while let Some(heard_first) = heard.next() {
            match heard_first {
                Heard::LoggedIn => {
                    let heard = heard.collect();
                    let connection = Connection { lines, session, heard, latency };
                    return Ok(Opened::Connection(Box::new(connection)));
                }
                Heard::Refused(failure) => return Err(Fault::Refused { pool: pool(), failure }),
                Heard::Say(line) => lines.send(&line).await.map_err(lost)?,
                Heard::Moved(redirect) => return Ok(Opened::Moved(redirect)),
                Heard::Work { .. } | Heard::Judged { .. } | Heard::Message(_) => {}
            }
        }
    }
}

async fn connect(endpoint: &Endpoint, line_time: Duration) -> std::io::Result<Lines> {
    let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
    // A share waits for nothing.
    stream.set_nodelay(true)?;
    let pin = match endpoint.tls {
        Tls::Off => return Ok(Lines::new(stream, line_time)),
        Tls::Roots => None,
        Tls::Pinned(pin) => Some(pin),
    };
    Ok(Lines::new(tls::secure(stream, &endpoint.host, pin).await?, line_time))
}
