//! Wallets and passwords: read from files, and shown nowhere.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::config::{Config, Mistake, Pool};

/// Shorter ones (pools take `x` for a password) would be found in every line.
const SHORTEST_HIDDEN: usize = 4;

/// What the pool is told and nobody else. It has no `Debug`, so that it cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    /// The wallet, or the account's name.
    pub(crate) wallet: Option<String>,
    pub(crate) password: Option<String>,
}

impl Secrets {
    /// Reads the files that `pool` names. The white space around a secret does not count.
    pub(crate) fn read(pool: &Pool) -> Result<Self, Vec<Mistake>> {
        let wallet = file("pool.wallet_file", pool.wallet_file.as_deref());
        let password = file("pool.password_file", pool.password_file.as_deref());
        match (wallet, password) {
            (Ok(wallet), Ok(password)) => Ok(Self { wallet, password }),
            (wallet, password) => {
                Err([wallet.err(), password.err()].into_iter().flatten().collect())
            }
        }
    }

    /// Whether the wallet is the one that `pool` commits to, where it commits to one.
    ///
    /// # Errors
    ///
    /// What is wrong, if it is not, or if that cannot be found out.
    pub(crate) fn committed(&self, pool: &Pool) -> Result<(), Mistake> {
        let Some(commitment) = &pool.wallet_commitment else { return Ok(()) };
        let wrong = |says: String| Err(Mistake::new("pool.wallet_file", says));
        let Some(wallet) = &self.wallet else {
            return wrong("the registration commits to a wallet, and none is given".into());
        };
        let salt = match &pool.wallet_salt_file {
            None => String::new(),
            Some(path) => file("pool.wallet_salt_file", Some(path))?.unwrap_or_default(),
        };
        let digest = Sha256::new().chain_update(&salt).chain_update(wallet).finalize();
        let is = format!("sha256:{}", hex::encode(digest));
        if is == *commitment {
            return Ok(());
        }
        wrong(format!(
            "it is not the wallet that the registration commits to ({commitment}): nothing runs for another one; give the registered wallet, and its salt if it has one"
        ))
    }

    /// Where a secret stands that everyone may read: the environment, the agent's own command
    /// line, and what the engine is started with.
    pub(crate) fn exposed(&self, config: &Config) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if self.stands_in(&value.to_string_lossy()) {
                mistakes.push(Mistake::new(
                    format!("environment, {name}"),
                    "it holds the wallet or the password, which everyone who sees the process can read there: leave it out, the file is enough",
                ));
            } else if ["WALLET", "POOL_PASSWORD"].contains(&&*name) {
                mistakes.push(Mistake::new(
                    format!("environment, {name}"),
                    "secrets are read from files only: mount the Secret as a file and name it in pool.wallet_file or pool.password_file",
                ));
            }
        }
        if std::env::args_os().any(|arg| self.stands_in(&arg.to_string_lossy())) {
            mistakes.push(Mistake::new(
                "command line",
                "it holds the wallet or the password, which everyone who sees the process can read there: write {config} and let engine.config_template bring it in",
            ));
        }
        let engine = &config.engine;
        for (place, values) in [
            ("engine.command", engine.command.iter().collect::<Vec<_>>()),
            ("engine.args", engine.args.iter().collect()),
            ("engine.env", engine.env.values().collect()),
            ("drain.hook", config.drain.hook.iter().collect()),
        ] {
            if values.into_iter().any(|value| self.stands_in(value)) {
                mistakes.push(Mistake::new(
                    place,
                    "it holds the wallet or the password, which everyone who sees the process can read there: write {config} and let engine.config_template bring it in",
                ));
            }
        }
        mistakes
    }

    /// `text` without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.hidden().fold(text.to_owned(), |text, (secret, name)| text.replace(secret, name))
    }

    /// The length of the longest secret that is hidden, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.hidden().map(|(secret, _)| secret.len()).max().unwrap_or(0)
    }

    fn stands_in(&self, text: &str) -> bool {
        self.hidden().any(|(secret, _)| text.contains(secret))
    }

    fn hidden(&self) -> impl Iterator<Item = (&str, &'static str)> {
        [(self.wallet.as_deref(), "[wallet]"), (self.password.as_deref(), "[password]")]
            .into_iter()
            .filter_map(|(secret, name)| Some((secret?, name)))
            .filter(|(secret, _)| secret.len() >= SHORTEST_HIDDEN)
    }
}

fn file(place: &str, path: Option<&Path>) -> Result<Option<String>, Mistake> {
    let Some(path) = path else { return Ok(None) };
    let text = fs::read_to_string(path).map_err(|error| {
        Mistake::new(place, format!("{} cannot be read: {error}", path.display()))
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Mistake::new(place, format!("{} is empty", path.display())));
    }
    if text.contains(char::is_control) {
        return Err(Mistake::new(
            place,
            format!("{} must hold one line with the secret, and nothing else", path.display()),
        ));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(wallet: &str, password: &str) -> Secrets {
        Secrets { wallet: Some(wallet.into()), password: Some(password.into()) }
    }

    #[test]
    fn what_is_shown_has_no_secret_in_it() {
        let secrets = secrets("49wallet", "hunter2");
        assert_eq!(secrets.hide("login 49wallet.rig hunter2"), "login [wallet].rig [password]");
    }

    /// `printf 'pepper49wallet' | sha256sum`
    const COMMITMENT: &str =
        "sha256:b045bfdec07d69466c486bcbd9b37489cec8d3aa17b373347d001019f5d9c19b";

    #[test]
    fn another_wallet_than_the_registered_one_is_told() {
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
    fn a_password_that_is_none_hides_nothing() {
        assert_eq!(secrets("49wallet", "x").hide("max 3 boxes"), "max 3 boxes");
    }
}
