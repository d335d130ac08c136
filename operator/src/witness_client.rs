//! A client of witnesses, by C2SP `tlog-witness`.

use std::mem;

use daylight_ledger::{AddCheckpoint, Hash, Note, Policy, VerifierKey};
use http::StatusCode;

use crate::failure::chain;
use crate::web::WebServer;

/// Attempts for each cosignature: a witness may have cosigned another checkpoint meanwhile.
const ATTEMPTS: u32 = 3;

/// Most bytes of a witness's answer, which has a line of at most 4 kB for each of its keys.
const MOST_BYTES: usize = 64 << 10;

/// Witnesses of a policy that are one server: a witness may have a key of each type.
pub(crate) struct WitnessClient {
    /// Names in the policy.
    pub(crate) names: Vec<String>,
    keys: Vec<VerifierKey>,
    url: String,
    server: WebServer,
    /// Number of entries in the checkpoint that it cosigned last, as far as it is known.
    old: u64,
}

impl WitnessClient {
    /// Returns a client for each address in a policy. The errors are those of witnesses without a
    /// usable address, each with its name.
    pub(crate) fn of(policy: &Policy) -> (Vec<Self>, Vec<String>) {
        let (mut clients, mut errors) = (Vec::<Self>::new(), Vec::new());
        for witness in policy.witnesses() {
            let name = || witness.name.clone();
            let Some(url) = &witness.url else {
                errors.push(format!("{}: the policy has no address of it", witness.name));
                continue;
            };
            if let Some(same) = clients.iter_mut().find(|client| client.url == *url) {
                same.names.push(name());
                same.keys.push(witness.key.clone());
                continue;
            }
            match WebServer::new(url) {
                Ok(server) => clients.push(Self {
                    names: vec![name()],
                    keys: vec![witness.key.clone()],
                    url: url.clone(),
                    server,
                    old: 0,
                }),
                Err(error) => errors.push(format!("{}: {}", witness.name, chain(&*error))),
            }
        }
        (clients, errors)
    }

    /// Has a checkpoint of `size` entries cosigned, and returns it with the witness's cosignatures.
    /// Signatures of keys that the policy does not name are left out. `prove` shows that the checkpoint
    /// continues one of fewer entries.
    ///
    /// # Errors
    ///
    /// The witness refuses it, does not answer, or answers something else. The text is the reason.
    pub(crate) async fn cosign<P: Future<Output = Result<Vec<Hash>, String>>>(
        &mut self,
        note: &Note,
        size: u64,
        mut prove: impl FnMut(u64) -> P,
    ) -> Result<Note, String> {
        // It is asked again with the size that it names. After any other answer, that is unknown.
        let mut old = mem::take(&mut self.old);
        for _ in 0..ATTEMPTS {
            if old > size {
                return Err(format!(
                    "it has cosigned a checkpoint of {old} entries, and this one has {size}"
                ));
            }
            let request = AddCheckpoint { old, proof: prove(old).await?, checkpoint: note.clone() };
            let sent = self.server.post("add-checkpoint", request.to_string(), MOST_BYTES);
            let (status, body) = sent.await.map_err(|error| chain(&*error))?;
            let body = String::from_utf8_lossy(&body);
            match status {
                StatusCode::OK => {
                    let mut cosigned = note.clone();
                    cosigned.add_lines(&body, &self.keys).map_err(|error| error.to_string())?;
                    self.old = size;
                    return Ok(cosigned);
                }
                StatusCode::CONFLICT => {
                    old = body
                        .trim()
                        .parse()
                        .map_err(|_| format!("it answers {status} without a size"))?;
                }
                _ => {
                    let reason: String = body.trim().chars().take(200).collect();
                    return Err(format!("it answers {status}: {reason}"));
                }
            }
        }
        Err("others have it cosign at the same time".to_owned())
    }
}
