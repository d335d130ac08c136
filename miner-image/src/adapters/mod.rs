//! Engines that the agent knows by name: their command lines, and the places of their figures.
//!
//! Each is a description; its source is cited there. Two answers need arithmetic of their own and are
//! read by code: lolMiner's and bzminer's.

mod bzminer;
mod gminer;
mod lolminer;
mod places;
mod rigel;
mod srbminer;
mod trex;
mod upstream;
mod xmrig;

use serde_json::Value;

use crate::config::EngineName;
use crate::figures::Figures;
use places::Places;
pub(crate) use upstream::Upstream;

/// An engine that is known by name. The agent watches over it, so that watchdogs of its own are
/// turned off.
pub(crate) struct Adapter {
    /// Its arguments, separated by spaces. `{url}`, `{address}`, `{host}` and `{port}` are the pool's;
    /// `{config}` is the path of `file`.
    args: &'static str,
    /// The option for the algorithm, if one is configured.
    algorithm: Option<&'static str>,
    /// `{tls}` in `args`, for a connection without and with TLS.
    tls: [&'static str; 2],
    /// The file that it takes its login from. One without it takes a login on its command line only.
    file: Option<fn(&Upstream) -> String>,
    /// Path of its figures on its loopback port.
    pub(crate) path: &'static str,
    answer: Answer,
}

/// Form of an engine's answer.
enum Answer {
    Places(&'static Places),
    Code(fn(&Value) -> Figures),
}

impl Adapter {
    /// Returns the content of the engine's configuration file, if it has one.
    pub(crate) fn file(&self, upstream: &Upstream) -> Option<String> {
        self.file.map(|file| file(upstream))
    }

    /// Reads the figures in the engine's answer.
    pub(crate) fn read(&self, answer: &Value) -> Figures {
        match &self.answer {
            Answer::Places(places) => places.read(answer),
            Answer::Code(read) => read(answer),
        }
    }
}

impl EngineName {
    /// Returns the engine's description, if it is one that is known by name.
    pub(crate) fn adapter(self) -> Option<&'static Adapter> {
        match self {
            Self::Command | Self::Sha256d | Self::Randomx | Self::Sha256dGpu => None,
            Self::Xmrig => Some(&xmrig::ADAPTER),
            Self::Trex => Some(&trex::ADAPTER),
            Self::Rigel => Some(&rigel::ADAPTER),
            Self::Gminer => Some(&gminer::ADAPTER),
            Self::Lolminer => Some(&lolminer::ADAPTER),
            Self::Srbminer => Some(&srbminer::ADAPTER),
            Self::Bzminer => Some(&bzminer::ADAPTER),
        }
    }

    /// Whether the engine takes its login from a file, and not on its command line only.
    pub(crate) fn keeps_secrets(self) -> bool {
        self.adapter().is_none_or(|adapter| adapter.file.is_some())
    }
}

/// Returns the number at a JSON pointer.
fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer)?.as_f64()
}

/// Returns the count at a JSON pointer.
fn count(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer)?.as_u64()
}

/// Returns the text at a JSON pointer.
fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// Returns a sensor's reading at a JSON pointer. Engines write 0 for a sensor that does not exist.
fn measured(value: &Value, pointer: &str) -> Option<f64> {
    number(value, pointer).filter(|number| *number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::secret::Secrets;

    fn upstream(name: EngineName) -> Upstream {
        let mut config = Config::default();
        config.engine.name = name;
        config.engine.algorithm = Some("algo".into());
        config.engine.api_port = 4067;
        config.pool.endpoints = vec!["stratum+ssl://pool.example.com:3333".into()];
        config.pool.worker = Some("rig-1".into());
        let (wallet, password) = (Some("49wallet".into()), Some("secret".into()));
        let secrets = Secrets { wallet, password, ..Secrets::default() };
        Upstream::new(&config, &secrets)
    }

    #[test]
    fn command_lines_are_what_the_engines_document_and_hold_no_secret() {
        let cases = [
            (EngineName::Xmrig, "--config={config}"),
            (
                EngineName::Trex,
                "--url stratum+ssl://pool.example.com:3333 --user rig-1 --pass x --worker rig-1 --api-bind-http 127.0.0.1:4067 --api-bind-telnet 0 --api-read-only --no-watchdog --no-color --algo algo",
            ),
            (
                EngineName::Rigel,
                "--url stratum+ssl://pool.example.com:3333 --username rig-1 --password x --worker rig-1 --api-bind 127.0.0.1:4067 --no-watchdog --no-tui --no-colour --algorithm algo",
            ),
            (
                EngineName::Gminer,
                "--server pool.example.com --port 3333 --user rig-1 --pass x --ssl 1 --api 4067 --watchdog 0 --color 0 --algo algo",
            ),
            (
                EngineName::Lolminer,
                "--pool pool.example.com:3333 --user rig-1 --pass x --tls on --apihost 127.0.0.1 --apiport 4067 --watchdog exit --nocolor --algo algo",
            ),
            (
                EngineName::Srbminer,
                "--pool pool.example.com:3333 --wallet rig-1 --worker rig-1 --password x --tls true --api-enable --api-port 4067 --disable-worker-watchdog --algorithm algo",
            ),
            (
                EngineName::Bzminer,
                "-p stratum+ssl://pool.example.com:3333 -w rig-1 -r rig-1 --pool_password x --http_enabled 1 --http_address 127.0.0.1 --http_port 4067 --no_watchdog --nc 1 --disable_index_html --no_color 1 -a algo",
            ),
        ];
        for (name, expected) in cases {
            let args = upstream(name).args(name.adapter().unwrap());
            assert_eq!(args.join(" "), expected, "{name}");
        }
    }

    #[test]
    fn xmrigs_login_stands_in_its_file() {
        let file = xmrig::ADAPTER.file(&upstream(EngineName::Xmrig)).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        let pool = &file["pools"][0];
        assert_eq!((&pool["user"], &pool["pass"]), (&"49wallet".into(), &"secret".into()));
        assert_eq!((&pool["url"], &pool["tls"]), (&"pool.example.com:3333".into(), &true.into()));
        assert_eq!(file["http"]["host"], "127.0.0.1");
    }
}
