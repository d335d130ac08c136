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
    /// Its arguments, separated by spaces. `{config}` is the path of its file, `{api_port}` the loopback
    /// port of its figures.
    args: &'static str,
    pools: Pools,
    /// Usual form of its login.
    login: &'static str,
    pub(crate) signs: KnownSigns,
    /// How an address names the dialect of Ethash, where it takes that from there.
    pub(crate) ethash: Option<EthashSchemes>,
    /// Path of its figures on its loopback port.
    pub(crate) path: &'static str,
    answer: Answer,
}

/// How an engine gets its pools, its login and its algorithm.
enum Pools {
    /// In a file with the wallet, and with the password where it has a place for that.
    File { content: fn(&Upstream) -> String, password: bool },
    /// On its command line, which is public: without a wallet.
    Args(fn(&Upstream) -> Vec<String>),
}

/// What is known of an engine that cannot go on.
pub(crate) struct KnownSigns {
    /// Texts in its log when every pool refused the login.
    pub(crate) login_refused: &'static [&'static str],
    /// Texts in its log when a device is lost, besides those of CUDA.
    pub(crate) device_lost: &'static [&'static str],
    /// Exit codes when a device is lost.
    pub(crate) device_lost_exit: &'static [i32],
}

impl KnownSigns {
    const NONE: Self = Self { login_refused: &[], device_lost: &[], device_lost_exit: &[] };
}

/// What CUDA calls an error after which a process can use its device no more.
pub(crate) const CUDA_LOST: &[&str] = &[
    "an illegal memory access was encountered",
    "unspecified launch failure",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
];

/// Beginnings of a scheme that stand for a dialect of Ethash.
pub(crate) struct EthashSchemes {
    ethereum_stratum: &'static str,
    ethproxy: &'static str,
}

impl EthashSchemes {
    /// As most engines have them.
    const USUAL: Self = Self { ethereum_stratum: "ethstratum", ethproxy: "ethproxy" };
}

/// Form of an engine's answer.
enum Answer {
    Places(&'static Places),
    Code(fn(&Value) -> Figures),
}

impl Adapter {
    /// Returns the content of the engine's configuration file, if it has one.
    pub(crate) fn file(&self, upstream: &Upstream) -> Option<String> {
        match self.pools {
            Pools::File { content, .. } => Some(content(upstream)),
            Pools::Args(_) => None,
        }
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

    /// Whether the engine takes the wallet from a file, and not on its command line only.
    pub(crate) fn keeps_wallet(self) -> bool {
        self.adapter().is_none_or(|adapter| matches!(adapter.pools, Pools::File { .. }))
    }

    /// Whether it takes the password from a file, too.
    pub(crate) fn keeps_password(self) -> bool {
        let in_file = |pools: &Pools| matches!(pools, Pools::File { password: true, .. });
        self.adapter().is_none_or(|adapter| in_file(&adapter.pools))
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
    use crate::config::{Config, Protocol};
    use crate::secret::Secrets;

    fn upstream(name: EngineName) -> Upstream {
        let mut config = Config::default();
        config.engine.name = name;
        config.engine.algorithm = Some("algo".into());
        config.engine.api_port = 4067;
        config.pool.endpoints =
            vec!["stratum+ssl://pool.example.com:3333".into(), "backup.example.com:1".into()];
        config.pool.worker = Some("rig-1".into());
        let (wallet, password) = (Some("49wallet".into()), Some("secret".into()));
        let secrets = Secrets { wallet, password, ..Secrets::default() };
        Upstream::new(&config, &secrets)
    }

    #[test]
    fn command_lines_are_what_the_engines_document_and_hold_no_secret() {
        let cases = [
            (EngineName::Xmrig, "--config={config}"),
            (EngineName::Trex, "--config {config}"),
            (
                EngineName::Rigel,
                "--api-bind 127.0.0.1:4067 --no-watchdog --no-tui --no-colour --url stratum+ssl://pool.example.com:3333 --url stratum+tcp://backup.example.com:1 --username rig-1 --password x --worker rig-1 --algorithm algo",
            ),
            (EngineName::Gminer, "--config {config}"),
            (
                EngineName::Lolminer,
                "--config {config} --apihost 127.0.0.1 --apiport 4067 --watchdog exit --nocolor",
            ),
            (
                EngineName::Srbminer,
                "--api-enable --api-port 4067 --disable-worker-watchdog --pool pool.example.com:3333,backup.example.com:1 --tls true,false --wallet rig-1,rig-1 --worker rig-1,rig-1 --password x!x --algorithm algo",
            ),
            (
                EngineName::Bzminer,
                "-c {config} --pool_password x --no_watchdog --disable_index_html",
            ),
        ];
        for (name, expected) in cases {
            let args = upstream(name).args(name.adapter().unwrap());
            assert_eq!(args.join(" "), expected, "{name}");
        }
    }

    fn file(name: EngineName, endpoints: &[&str]) -> String {
        let mut config = Config::default();
        config.engine.name = name;
        config.engine.algorithm = Some("etchash".into());
        config.engine.api_port = 4067;
        config.pool.endpoints = endpoints.iter().map(|&endpoint| endpoint.into()).collect();
        config.pool.worker = Some("rig-1".into());
        let (wallet, password) = (Some("49wallet".into()), Some("secret".into()));
        let secrets = Secrets { wallet, password, ..Secrets::default() };
        name.adapter().unwrap().file(&Upstream::new(&config, &secrets)).unwrap()
    }

    /// What an engine is given where the agent is logged in by this protocol: its words, and its file.
    fn behind_the_agent(name: EngineName, protocol: Protocol) -> String {
        let mut config = Config::default();
        config.engine.name = name;
        config.engine.algorithm = Some("etchash".into());
        config.pool.protocol = Some(protocol);
        config.pool.endpoints = vec!["tls://pool.example.com:443".into()];
        config.pool.worker = Some("rig-1".into());
        let upstream = Upstream::proxy(&config, ([127, 0, 0, 1], 4000).into());
        let adapter = name.adapter().unwrap();
        let file = adapter.file(&upstream).unwrap_or_default();
        format!("{} {file}", upstream.args(adapter).join(" "))
    }

    #[test]
    fn an_engine_behind_the_agent_is_told_the_dialect() {
        use EngineName::{Bzminer, Gminer, Lolminer, Rigel, Trex, Xmrig};
        for (name, ethereum_stratum, ethproxy) in [
            (Trex, "stratum2+tcp://127.0.0.1:4000", "stratum+tcp://127.0.0.1:4000"),
            (Rigel, "ethstratum+tcp://127.0.0.1:4000", "ethproxy+tcp://127.0.0.1:4000"),
            (Bzminer, "ethstratum+tcp://127.0.0.1:4000", "ethproxy+tcp://127.0.0.1:4000"),
            (Lolminer, "ethstratum=ETHV1", "ethstratum=ETHPROXY"),
            (Gminer, "proto=stratum", "port=4000"),
        ] {
            let given = behind_the_agent(name, Protocol::EthereumStratum);
            assert!(given.contains(ethereum_stratum), "{name}: {given}");
            let given = behind_the_agent(name, Protocol::EthProxy);
            assert!(
                given.contains(ethproxy) && !given.contains("proto=stratum"),
                "{name}: {given}"
            );
        }
        for name in [Trex, Rigel, Bzminer] {
            let given = behind_the_agent(name, Protocol::Kawpow);
            assert!(given.contains("stratum+tcp://127.0.0.1:4000"), "{name}: {given}");
        }
        let given = behind_the_agent(Xmrig, Protocol::Kawpow);
        assert!(given.contains("\"127.0.0.1:4000\""), "{given}");
    }

    const POOLS: [&str; 2] =
        ["stratum2+tcp://pool.example.com:3353", "tls://backup.example.com:443"];

    #[test]
    fn xmrigs_pools_and_login_are_in_its_file() {
        let file =
            file(EngineName::Xmrig, &["pool.example.com:3333", "tls://backup.example.com:443"]);
        let file: Value = serde_json::from_str(&file).unwrap();
        let pools = &file["pools"];
        assert_eq!((&pools[0]["user"], &pools[0]["pass"]), (&"49wallet".into(), &"secret".into()));
        assert_eq!(
            (&pools[0]["url"], &pools[0]["tls"]),
            (&"pool.example.com:3333".into(), &false.into())
        );
        assert_eq!(
            (&pools[1]["url"], &pools[1]["tls"]),
            (&"backup.example.com:443".into(), &true.into())
        );
        assert_eq!(file["http"]["host"], "127.0.0.1");
        assert_eq!(file["donate-level"], 0);
        assert_eq!(file["cpu"], serde_json::json!({"huge-pages": false}));
        assert_eq!(file["randomx"], serde_json::json!({"mode": "auto"}));
    }

    #[test]
    fn xmrigs_threads_and_memory_are_those_of_the_configuration() {
        let mut config = Config::default();
        config.engine.name = EngineName::Xmrig;
        config.engine.threads = std::num::NonZeroUsize::new(4);
        config.engine.mode = Some(crate::config::RandomxMode::Light);
        config.engine.huge_pages = true;
        let upstream = Upstream::new(&config, &Secrets::default());
        let file = EngineName::Xmrig.adapter().unwrap().file(&upstream).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        assert_eq!(
            file["cpu"],
            serde_json::json!({
                "huge-pages": true,
                "*": {"threads": 4, "intensity": 1, "affinity": -1},
            })
        );
        assert_eq!(file["randomx"], serde_json::json!({"mode": "light"}));
    }

    #[test]
    fn srbminers_pools_have_their_own_protocols() {
        let mut config = Config::default();
        config.engine.name = EngineName::Srbminer;
        config.pool.endpoints = vec![
            "ethstratum+tcp://a.example.com:1".into(),
            "stratum2+ssl://b.example.com:2".into(),
            "ethproxy+tcp://c.example.com:3".into(),
        ];
        let args = Upstream::new(&config, &Secrets::default())
            .args(EngineName::Srbminer.adapter().unwrap())
            .join(" ");
        assert!(args.contains("--esm 1,2,0"), "{args}");
        assert!(args.contains("--tls false,true,false"), "{args}");
    }

    #[test]
    fn rigel_gets_nicehashs_protocol_by_its_own_name() {
        let mut config = Config::default();
        config.engine.name = EngineName::Rigel;
        config.pool.endpoints = vec!["stratum2+tcp://a.example.com:1".into()];
        let args = Upstream::new(&config, &Secrets::default())
            .args(EngineName::Rigel.adapter().unwrap())
            .join(" ");
        assert!(args.contains("--url ethstratum+tcp://a.example.com:1"), "{args}");
    }

    #[test]
    fn t_rexs_pools_and_login_are_in_its_file() {
        let file: Value = serde_json::from_str(&file(EngineName::Trex, &POOLS)).unwrap();
        assert_eq!(
            file["pools"],
            serde_json::json!([
                {"url": "stratum2+tcp://pool.example.com:3353", "user": "49wallet", "pass": "secret", "worker": "rig-1"},
                {"url": "stratum+ssl://backup.example.com:443", "user": "49wallet", "pass": "secret", "worker": "rig-1"},
            ])
        );
        assert_eq!(
            (&file["algo"], &file["api-bind-http"]),
            (&"etchash".into(), &"127.0.0.1:4067".into())
        );
    }

    #[test]
    fn gminers_pools_and_login_are_in_its_file() {
        let file = file(EngineName::Gminer, &["ethstratum+tcp://pool.example.com:3353", POOLS[1]]);
        assert_eq!(
            file,
            "[common]\nalgo=etchash\napi=4067\nwatchdog=0\ncolor=0\n\n\
             [server]\nhost=pool.example.com\nport=3353\nuser=49wallet.rig-1\npass=secret\nssl=0\nproto=stratum\n\n\
             [server]\nhost=backup.example.com\nport=443\nuser=49wallet.rig-1\npass=secret\nssl=1\n"
        );
    }

    #[test]
    fn lolminers_pools_and_login_are_in_its_file() {
        let file =
            file(EngineName::Lolminer, &["ethstratum+tcp://pool.example.com:3353", POOLS[1]]);
        assert_eq!(
            file,
            "algo=ETCHASH\nethstratum=ETHV1\n\
             pool=pool.example.com:3353\nuser=49wallet.rig-1\npass=secret\ntls=off\n\
             pool=backup.example.com:443\nuser=49wallet.rig-1\npass=secret\ntls=on\n"
        );
    }

    #[test]
    fn bzminers_pools_and_wallet_are_in_its_file() {
        let file: Value = serde_json::from_str(&file(EngineName::Bzminer, &POOLS)).unwrap();
        assert_eq!(
            file["pool_configs"],
            serde_json::json!([{
                "algorithm": "etchash", "wallet": "49wallet", "username": "rig-1",
                "url": ["stratum2+tcp://pool.example.com:3353", "stratum+ssl://backup.example.com:443"],
            }])
        );
        assert_eq!(
            (&file["http_address"], &file["http_port"]),
            (&"127.0.0.1".into(), &4067.into())
        );
        assert_eq!(file["lock_config"], true);
    }
}
