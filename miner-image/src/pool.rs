//! What the agent itself has to do with the pools, where it stands between them and an engine.

use daylight_stratum::client::{self, Fault, State, Timing};
use daylight_stratum::{Endpoint, Login, Tls};
use serde::Serialize;

use crate::config::{Config, Pool, Protocol};
use crate::figures::Figures;
use crate::secret::Secrets;

/// The pools, and who logs in there. `config` has no mistakes.
pub(crate) fn client(config: &Config, secrets: &Secrets) -> client::Config {
    let pool = &config.pool;
    let wallet = secrets.wallet.as_deref().unwrap_or("");
    let worker = pool.worker.as_deref();
    let user = match (&pool.login, config.pool_protocol(), worker) {
        (Some(login), ..) => {
            login.replace("{worker}", worker.unwrap_or("")).replace("{wallet}", wallet)
        }
        (None, Some(Protocol::StratumV1), Some(worker)) => format!("{wallet}.{worker}"),
        _ => wallet.to_owned(),
    };
    let login = Login {
        user,
        password: secrets.password.clone().unwrap_or_else(|| "x".into()),
        worker: pool.worker.clone(),
        algorithms: config.algorithm().into_iter().map(str::to_owned).collect(),
    };
    let pools = pool.endpoints.iter().filter_map(|text| endpoint(pool, text).ok()).collect();
    client::Config { pools, login, timing: Timing::default() }
}

/// A pool, with the certificate that it has to show.
///
/// # Errors
///
/// One sentence on what is wrong with it.
pub(crate) fn endpoint(pool: &Pool, text: &str) -> Result<Endpoint, String> {
    let mut endpoint: Endpoint =
        text.parse().map_err(|error: daylight_stratum::EndpointError| error.to_string())?;
    if let Some(pin) = pool.pins.get(&format!("{}:{}", endpoint.host, endpoint.port)) {
        endpoint.tls = match (endpoint.tls, certificate(pin)) {
            (Tls::Off, _) => {
                return Err(format!(
                    "{text} is in pool.pins, and has no TLS: write tls://{}:{}",
                    endpoint.host, endpoint.port
                ));
            }
            (_, None) => {
                return Err(format!(
                    "its certificate in pool.pins is \"{pin}\": write SHA-256 as 64 hexadecimal digits"
                ));
            }
            (_, Some(pin)) => Tls::Pinned(pin),
        };
    }
    Ok(endpoint)
}

fn certificate(pin: &str) -> Option<[u8; 32]> {
    hex::decode(pin).ok()?.try_into().ok()
}

/// What the agent saw of the pools, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    pub(crate) logins: u64,
    /// Times that another pool than before took the work.
    pub(crate) failovers: u64,
    /// Redirects to hosts that are not declared.
    pub(crate) refused_redirects: u64,
    /// Seconds from a request to its reply, the last time.
    pub(crate) latency_seconds: Option<f64>,
    /// What went wrong last.
    pub(crate) fault: Option<String>,
}

/// `figures` of an engine, with what the agent saw itself in the place of what the engine says.
pub(crate) fn seen(status: &client::Status, figures: Figures) -> Figures {
    let connected = matches!(status.state, State::LoggedIn { .. });
    Figures {
        connected: Some(connected),
        authorised: Some(connected),
        shares_accepted: Some(status.accepted),
        shares_rejected: Some(status.rejected),
        shares_stale: Some(status.stale),
        shares_lost: Some(status.lost),
        pool: Some(Seen {
            logins: status.logins,
            failovers: status.failovers,
            refused_redirects: status.refused_redirects,
            latency_seconds: status.latency.map(|latency| latency.as_secs_f64()),
            fault: status.fault.as_ref().map(ToString::to_string),
        }),
        ..figures
    }
}

/// Why it is of no use to go on: no pool let the worker in, and none ever has.
pub(crate) fn refusal(status: &client::Status) -> Option<String> {
    match &status.fault {
        Some(fault @ Fault::Refused { .. })
            if status.logins == 0 && status.state == State::Waiting =>
        {
            Some(fault.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn user(text: &str) -> String {
        let secrets = Secrets { wallet: Some("49wallet".into()), password: None };
        client(&config(text), &secrets).login.user
    }

    #[test]
    fn logins_are_as_the_pools_of_a_dialect_have_them() {
        assert_eq!(user("engine.name = \"sha256d\"\npool.worker = \"rig\""), "49wallet.rig");
        assert_eq!(user("engine.name = \"sha256d\""), "49wallet");
        assert_eq!(user("engine.name = \"xmrig\"\npool.worker = \"rig\""), "49wallet");
        let told =
            "engine.name = \"xmrig\"\npool.worker = \"rig\"\npool.login = \"{wallet}+{worker}\"";
        assert_eq!(user(told), "49wallet+rig");
    }

    #[test]
    fn a_pin_is_for_a_pool_with_tls() {
        let pin = "ab".repeat(32);
        let told = format!("[pool.pins]\n\"p.example:443\" = \"{pin}\"\n\"q.example:1\" = \"zz\"");
        let pool = config(&told).pool;
        let tls = |text| endpoint(&pool, text).map(|endpoint| endpoint.tls);
        assert_eq!(tls("tls://p.example:443"), Ok(Tls::Pinned([0xab; 32])));
        assert_eq!(tls("tls://p.example:444"), Ok(Tls::Roots));
        assert!(tls("p.example:443").unwrap_err().contains("write tls://p.example:443"));
        assert!(tls("tls://q.example:1").unwrap_err().contains("64 hexadecimal digits"));
    }
}
