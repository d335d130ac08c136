//! Wallets and passwords: read from files only, and hidden from all output.

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::config::{Config, Mistake, Pool};

/// Length in bytes from which a secret is hidden. A shorter one, such as the password `x` that pools
/// accept, would match in every line.
const SHORTEST_HIDDEN: usize = 4;

/// Mistake of a secret in an argument.
const EXPOSED_ARGUMENT: &str = "it holds the wallet or the password, and anyone who sees the process can read it there: write {config}, and put the secret into engine.config_template";

/// Secrets of the login. The type has no `Debug`, so that it cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    /// The wallet, or the account's name.
    pub(crate) wallet: Option<String>,
    pub(crate) password: Option<String>,
}

impl Secrets {
    /// Reads the files that `pool` names, without the white space around each secret.
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
        self.hidden().fold(text.to_owned(), |text, (secret, name)| text.replace(secret, name))
    }

    /// Returns the length of the longest secret that is hidden, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.hidden().map(|(secret, _)| secret.len()).max().unwrap_or(0)
    }

    fn is_in(&self, text: &str) -> bool {
        self.hidden().any(|(secret, _)| text.contains(secret))
    }

    /// The secrets that are hidden, each with what stands for it.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = (&str, &'static str)> {
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
            format!("{} must hold the secret on one line and nothing else", path.display()),
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
