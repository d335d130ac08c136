//! Wallets and passwords: read from files only, and hidden from all output.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use daylight_stratum::{hide, places_of};
use sha2::{Digest as _, Sha256};

use crate::config::{Config, Mistake, Pool};

/// Length in bytes from which a secret is hidden. A shorter one, such as the password `x` that pools
/// accept, would match in every line.
const SHORTEST_HIDDEN: usize = 4;

/// Length from which a secret is found as a part of a value, too. A shorter one, such as an account's
/// name, is a part of other names by chance.
const SHORTEST_PART: usize = 8;

/// Longest secret in bytes; more is another file.
const LONGEST: u64 = 256;

/// Mistake of a secret in an argument.
const EXPOSED_ARGUMENT: &str = "it holds the wallet or the password, and anyone who sees the process can read it there: write {config}, and put the secret into engine.config_template";

/// Secrets of the login. The type has no `Debug`, so that it cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    /// The wallet, or the account's name.
    pub(crate) wallet: Option<String>,
    pub(crate) password: Option<String>,
    /// Whether the password is the worker's name.
    pub(crate) password_is_public: bool,
}

impl Secrets {
    /// Reads the files that `pool` names, without the white space around each secret.
    pub(crate) fn read(pool: &Pool) -> Result<Self, Vec<Mistake>> {
        let wallet = file("pool.wallet_file", pool.wallet_file.as_deref()).and_then(|wallet| {
            let unusual = |c: char| !c.is_ascii_graphic() || c == '"' || c == '\'';
            match wallet.as_deref().and_then(|wallet| wallet.chars().find(|c| unusual(*c))) {
                Some(unusual) => Err(Mistake::new(
                    "pool.wallet_file",
                    format!(
                        "it has the character {unusual:?}, which no wallet or account has: write the wallet alone, without quotes or blanks"
                    ),
                )),
                None => Ok(wallet),
            }
        });
        let password = file("pool.password_file", pool.password_file.as_deref());
        match (wallet, password) {
            // A rig's name in the place of the password is no secret.
            (Ok(wallet), Ok(password)) if password == pool.worker => {
                Ok(Self { wallet, password, password_is_public: true })
            }
            (Ok(wallet), Ok(password)) => Ok(Self { wallet, password, ..Self::default() }),
            (wallet, password) => {
                Err([wallet.err(), password.err()].into_iter().flatten().collect())
            }
        }
    }

    /// Checks that the wallet is the one that `pool` commits to, if it commits to one.
    ///
    /// # Errors
    ///
    /// The mistake, if it is another wallet, or if that cannot be determined.
    pub(crate) fn committed(&self, pool: &Pool) -> Result<(), Mistake> {
        let Some(commitment) = &pool.wallet_commitment else { return Ok(()) };
        let wrong = |sentence: String| Err(Mistake::new("pool.wallet_file", sentence));
        let Some(wallet) = &self.wallet else {
            return wrong("the registration commits to a wallet and this names no file: name the file with that wallet".into());
        };
        let salt = match &pool.wallet_salt_file {
            None => String::new(),
            Some(path) => file("pool.wallet_salt_file", Some(path))?.unwrap_or_default(),
        };
        let digest = Sha256::new().chain_update(&salt).chain_update(wallet).finalize();
        if *commitment == format!("sha256:{}", hex::encode(digest)) {
            return Ok(());
        }
        wrong(format!(
            "it is not the wallet that the registration commits to ({commitment}): use the registered wallet, with its salt if it has one"
        ))
    }

    /// Finds the secrets in public places, which are a mistake each: the environment, the agent's
    /// command line, and the engine's.
    pub(crate) fn exposed(&self, config: &Config) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if self.is_in(&value.to_string_lossy()) {
                mistakes.push(Mistake::new(
                    format!("environment, {name}"),
                    "it holds the wallet or the password, and anyone who sees the process can read it there: remove it, the file is enough",
                ));
            } else if ["WALLET", "POOL_PASSWORD"].contains(&&*name) {
                mistakes.push(Mistake::new(
                    format!("environment, {name}"),
                    "secrets are read from files only: mount the Secret as a file and name it in pool.wallet_file or pool.password_file",
                ));
            }
        }
        if std::env::args_os().any(|arg| self.is_in(&arg.to_string_lossy())) {
            mistakes.push(Mistake::new("command line", EXPOSED_ARGUMENT));
        }
        let engine = &config.engine;
        for (place, values) in [
            ("engine.command", engine.command.iter().collect::<Vec<_>>()),
            ("engine.args", engine.args.iter().collect()),
            ("engine.env", engine.env.values().collect()),
            ("drain.hook", config.drain.hook.iter().collect()),
        ] {
            if values.into_iter().any(|value| self.is_in(value)) {
                mistakes.push(Mistake::new(place, EXPOSED_ARGUMENT));
            }
        }
        mistakes
    }

    /// Returns `text` without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.hidden().fold(text.to_owned(), |text, (secret, name)| hide(&text, secret, name))
    }

    /// Returns the length of the longest secret that is hidden, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.hidden().map(|(secret, _)| secret.len()).max().unwrap_or(0)
    }

    fn is_in(&self, text: &str) -> bool {
        let is_part = |secret: &str| {
            secret.len() >= SHORTEST_PART && places_of(text, secret).next().is_some()
        };
        self.hidden().any(|(secret, _)| text == secret || is_part(secret))
    }

    /// The secrets that are hidden, each with what stands for it.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let password = self.password.as_deref().filter(|_| !self.password_is_public);
        [(self.wallet.as_deref(), "[wallet]"), (password, "[password]")]
            .into_iter()
            .filter_map(|(secret, name)| Some((secret?, name)))
            .filter(|(secret, _)| secret.len() >= SHORTEST_HIDDEN)
    }
}

fn file(place: &str, path: Option<&Path>) -> Result<Option<String>, Mistake> {
    let Some(path) = path else { return Ok(None) };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(2 * LONGEST).read_to_string(&mut text));
    read.map_err(|error| {
        Mistake::new(place, format!("{} cannot be read: {error}", path.display()))
    })?;
    // Some editors write a byte order mark first.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.len() as u64 > LONGEST {
        return Err(Mistake::new(
            place,
            format!(
                "{} has more than {LONGEST} bytes, which no secret of a pool has",
                path.display()
            ),
        ));
    }
    if text.is_empty() {
        return Err(Mistake::new(place, format!("{} is empty", path.display())));
    }
    if text.contains(char::is_control) {
        return Err(Mistake::new(
            place,
            format!("{} must hold the secret on one line and nothing else", path.display()),
        ));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn secrets(wallet: &str, password: &str) -> Secrets {
        let (wallet, password) = (Some(wallet.into()), Some(password.into()));
        Secrets { wallet, password, ..Secrets::default() }
    }

    #[test]
    fn a_name_that_contains_an_account_is_no_secret() {
        let secrets = secrets("acme", "x");
        for name in ["acme-btc-0", "acme.example:3333", "tcp://acme-svc:80", "acmes"] {
            assert!(!secrets.is_in(name), "{name}");
        }
        assert!(secrets.is_in("acme"));
        assert_eq!(secrets.hide("acme: acmes, acme.rig"), "[wallet]: acmes, [wallet].rig");
        let address = "48".repeat(47);
        let secrets = Secrets { wallet: Some(address.clone()), ..Secrets::default() };
        assert!(secrets.is_in(&format!("pod{address}0")));
        let account = Secrets { wallet: Some("49wallet".into()), ..Secrets::default() };
        assert!(account.is_in("49wallet.rig") && !account.is_in("x49wallets"));
    }

    fn read(wallet: &[u8]) -> Result<Option<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wallet");
        fs::write(&path, wallet).unwrap();
        let pool = Pool { wallet_file: Some(path), ..Pool::default() };
        let secrets = Secrets::read(&pool);
        secrets.map(|secrets| secrets.wallet).map_err(|mistakes| mistakes[0].to_string())
    }

    #[test]
    fn a_wallet_file_holds_a_wallet_and_nothing_else() {
        assert_eq!(read(b"\xef\xbb\xbf49wallet\r\n"), Ok(Some("49wallet".into())));
        for (text, sentence) in [
            (&b"49wal\xe2\x80\x8blet"[..], "it has the character '\\u{200b}'"),
            (b"49 wallet", "it has the character ' '"),
            (b"\"49wallet\"", "it has the character '\"'"),
            (&[b'4'; 300], "has more than 256 bytes"),
            (&[b'4'; 10_000], "has more than 256 bytes"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(sentence), "{said}");
            assert!(!said.contains("49"), "{said}");
        }
    }

    #[test]
    fn a_password_that_is_the_workers_name_is_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, "rig-7").unwrap();
        let worker = Some("rig-7".into());
        let pool = Pool { password_file: Some(path), worker, ..Pool::default() };
        let Ok(secrets) = Secrets::read(&pool) else { panic!() };
        assert_eq!(secrets.password.as_deref(), Some("rig-7"));
        assert!(!secrets.is_in("rig-7"));
    }

    #[test]
    fn hidden_text_holds_no_secret() {
        let secrets = secrets("49wallet", "hunter2");
        assert_eq!(secrets.hide("login 49wallet.rig hunter2"), "login [wallet].rig [password]");
    }

    /// `printf 'pepper49wallet' | sha256sum`
    const COMMITMENT: &str =
        "sha256:b045bfdec07d69466c486bcbd9b37489cec8d3aa17b373347d001019f5d9c19b";

    #[test]
    fn another_wallet_than_the_registered_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let salt = directory.path().join("salt");
        fs::write(&salt, "pepper\n").unwrap();
        let mut pool = Pool {
            wallet_commitment: Some(COMMITMENT.into()),
            wallet_salt_file: Some(salt),
            ..Pool::default()
        };
        assert_eq!(secrets("49wallet", "x").committed(&pool), Ok(()));
        let wrong = secrets("49other", "x").committed(&pool).unwrap_err().to_string();
        assert!(wrong.contains("not the wallet that the registration commits to"), "{wrong}");
        assert!(!wrong.contains("49other"));
        assert!(Secrets::default().committed(&pool).is_err());
        pool.wallet_salt_file = None;
        assert!(secrets("49wallet", "x").committed(&pool).is_err());
        pool.wallet_commitment = None;
        assert_eq!(secrets("49other", "x").committed(&pool), Ok(()));
    }

    #[test]
    fn a_password_that_protects_nothing_hides_nothing() {
        assert_eq!(secrets("49wallet", "x").hide("max 3 boxes"), "max 3 boxes");
    }
}
