//! The agent's own logins at the pools, for a built-in engine or between pool and engine.

use daylight_stratum::client::{self, State, Timing};
use daylight_stratum::{Endpoint, Login, Tls};

use crate::config::{Config, Pool, Protocol, scheme_protocol};
use crate::figures::{Figures, PoolFigures};
use crate::secret::Secrets;

/// Returns the pools and the login there. `config` has been checked.
pub(crate) fn client(config: &Config, secrets: &Secrets) -> client::Config {
    let pool = &config.pool;
    let wallet = secrets.wallet.as_deref().unwrap_or("");
    let worker = pool.worker.as_deref();
    let form = match (config.pool_protocol(), worker) {
        (Some(Protocol::StratumV1 | Protocol::EthereumStratum | Protocol::Kawpow), Some(_)) => {
            "{wallet}.{worker}"
        }
        // The other dialects have a field for the worker.
        _ => "{wallet}",
    };
    let user = login(pool, form, wallet, worker.unwrap_or(""));
    let login = Login {
        user,
        password: secrets.password.clone().unwrap_or_else(|| "x".into()),
        worker: pool.worker.clone(),
        algorithms: config.algorithm().into_iter().map(str::to_owned).collect(),
        hidden: secrets.hidden().map(|(secret, name)| (secret.to_owned(), name)).collect(),
    };
    let pools = pool.endpoints.iter().filter_map(|text| endpoint(pool, text).ok()).collect();
    client::Config { pools, login, timing: Timing::default() }
}

/// Returns the login at a pool: as configured, or in the usual form.
pub(crate) fn login(pool: &Pool, usual: &str, wallet: &str, worker: &str) -> String {
    let form = pool.login.as_deref().unwrap_or(usual);
    form.replace("{worker}", worker).replace("{wallet}", wallet)
}

/// Reads a pool's address, and adds the certificates that `pool` pins for it.
///
/// # Errors
///
/// One sentence: what is wrong with the address or with the pin.
pub(crate) fn endpoint(pool: &Pool, text: &str) -> Result<Endpoint, String> {
    // What is left of a scheme that names the protocol, which the agent has chosen by then, is tcp, ssl or
    // tls.
    let address = match scheme_protocol(text) {
        Some(_) => text.split_once('+').map_or(text, |(_, address)| address),
        None => text,
    };
    let mut endpoint: Endpoint =
        address.parse().map_err(|error: daylight_stratum::EndpointError| error.to_string())?;
    if let Some(pins) = pool.pins.get(&format!("{}:{}", endpoint.host, endpoint.port)) {
        if endpoint.tls == Tls::Off {
            return Err(format!(
                "{text} has a certificate in pool.pins but does not use TLS: write tls://{}:{}",
                endpoint.host, endpoint.port
            ));
        }
        let pins = pins.all().iter().map(|pin| {
            fingerprint(pin).ok_or_else(|| {
                format!(
                    "a certificate of {text} in pool.pins is \"{pin}\": write its SHA-256 as 64 hexadecimal digits"
                )
            })
        });
        endpoint.tls = Tls::Pinned(pins.collect::<Result<_, _>>()?);
    }
    Ok(endpoint)
}

/// Reads a SHA-256, with or without the colons that openssl writes.
fn fingerprint(pin: &str) -> Option<[u8; 32]> {
    hex::decode(pin.replace(':', "")).ok()?.try_into().ok()
}

impl Figures {
    /// Replaces what an engine reports of its pool by what the agent, which is logged in there, saw.
    pub(crate) fn with_pool(self, status: &client::Status) -> Self {
        let connected = matches!(status.state, State::LoggedIn { .. });
        Self {
            connected: Some(connected),
            authorised: Some(connected),
            shares_accepted: Some(status.accepted),
            shares_rejected: Some(status.rejected),
            shares_stale: Some(status.stale),
            shares_lost: Some(status.lost),
            pool: Some(PoolFigures {
                logins: status.logins,
                failovers: status.failovers,
                refused_redirects: status.refused_redirects,
                unread_lines: status.unread_lines,
                latency_seconds: status.latency.map(|latency| latency.as_secs_f64()),
                fault: status.fault.as_ref().map(ToString::to_string),
                faults: status.faults.iter().map(ToString::to_string).collect(),
                rejection: status.rejection.as_ref().map(ToString::to_string),
                message: status.message.as_deref().map(one_line),
                engines: None,
            }),
            ..self
        }
    }
}

/// Longest message of a pool that is kept.
const LONGEST_MESSAGE: usize = 256;

/// Returns a pool's words as one line of bounded length, without control characters.
fn one_line(words: &str) -> String {
    let printable = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn user(text: &str) -> String {
        let secrets = Secrets { wallet: Some("49wallet".into()), ..Secrets::default() };
        client(&config(text), &secrets).login.user
    }

    #[test]
    fn logins_are_as_the_pools_of_a_dialect_have_them() {
        assert_eq!(user("engine.name = \"sha256d\"\npool.worker = \"rig\""), "49wallet.rig");
        assert_eq!(user("engine.name = \"sha256d\""), "49wallet");
        assert_eq!(user("engine.name = \"xmrig\"\npool.worker = \"rig\""), "49wallet");
        for (protocol, login) in [
            ("stratum-v1", "49wallet.rig"),
            ("ethereum-stratum", "49wallet.rig"),
            ("kawpow", "49wallet.rig"),
            ("ethproxy", "49wallet"),
            ("monero", "49wallet"),
        ] {
            let engine = format!("pool.protocol = \"{protocol}\"\npool.worker = \"rig\"");
            assert_eq!(user(&engine), login, "{protocol}");
        }
        let configured =
            "engine.name = \"xmrig\"\npool.worker = \"rig\"\npool.login = \"{wallet}+{worker}\"";
        assert_eq!(user(configured), "49wallet+rig");
    }

    #[test]
    fn a_pin_is_for_a_pool_with_tls() {
        let pin = "ab".repeat(32);
        let openssl = "CD:".repeat(31) + "CD";
        let text = format!(
            "[pool.pins]\n\"p.example:443\" = \"{pin}\"\n\"q.example:1\" = \"zz\"\n\"r.example:1\" = [\"{pin}\", \"{openssl}\"]"
        );
        let pool = config(&text).pool;
        let tls = |text| endpoint(&pool, text).map(|endpoint| endpoint.tls);
        assert_eq!(tls("tls://p.example:443"), Ok(Tls::Pinned(vec![[0xab; 32]])));
        assert_eq!(tls("tls://r.example:1"), Ok(Tls::Pinned(vec![[0xab; 32], [0xcd; 32]])));
        assert_eq!(tls("tls://p.example:444"), Ok(Tls::Roots));
        assert_eq!(tls("ethproxy+ssl://p.example:443"), Ok(Tls::Pinned(vec![[0xab; 32]])));
        assert_eq!(tls("ethstratum+tcp://p.example:444"), Ok(Tls::Off));
        assert!(tls("p.example:443").unwrap_err().contains("write tls://p.example:443"));
        assert!(tls("tls://q.example:1").unwrap_err().contains("64 hexadecimal digits"));
    }
}
