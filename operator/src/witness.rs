//! A witness of ledgers, by C2SP `tlog-witness`: it cosigns a checkpoint if the ledger only grew since the
//! last one, so that a ledger with two histories finds no one to cosign both.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as RequestPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use daylight_ledger::{
    CosigningKey, KeyError, Note, Refusal, VerifierKey, Witness, monitoring_path,
};
use tokio::net::TcpListener;

use crate::auditor::journal::{Directory, Disk};
use crate::files;

/// File with the private keys, one per line.
const KEYS: &str = "witness.key";

/// Most bytes of a request: a proof of 63 hashes and a checkpoint with many signatures.
const MOST_BYTES: usize = 64 << 10;

/// Settings of a witness.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of its keys, and of the checkpoints that it cosigned last.
    pub data_dir: PathBuf,
    /// Name of its keys, which are made if there are none.
    pub name: String,
    /// Keys of the ledgers that it cosigns.
    pub logs: Vec<VerifierKey>,
    pub listen: SocketAddr,
}

/// Failure that ends the witness.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("cannot use the data directory {0} ({1}); choose another with --data-dir")]
    DataDirectory(PathBuf, io::Error),
    #[error("{0} does not have the witness's keys ({1}); restore it, or use another directory")]
    Keys(PathBuf, KeyError),
    #[error("cannot make keys: the system gives no random bytes ({0})")]
    Random(getrandom::Error),
    #[error("cannot listen on {0} ({1}); choose another address with --listen")]
    Listen(SocketAddr, io::Error),
    #[error("the HTTP server ended ({0})")]
    Serve(io::Error),
}

pub(crate) struct Served {
    witness: Witness,
    /// One request at a time: each is compared with what the last one stored.
    directory: Mutex<Directory>,
}

/// Witnesses until `shutdown`.
///
/// # Errors
///
/// The data directory cannot be used, another witness uses it, or the address cannot be served.
pub async fn run(
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WitnessError> {
    let listen = settings.listen;
    let served = Served::open(settings)?;
    let listener =
        TcpListener::bind(listen).await.map_err(|error| WitnessError::Listen(listen, error))?;
    let server = axum::serve(listener, router(served)).with_graceful_shutdown(shutdown);
    server.await.map_err(WitnessError::Serve)
}

/// Reads the keys, or makes one of each kind for their owner alone.
fn keys(directory: &Path, name: &str) -> Result<Vec<CosigningKey>, WitnessError> {
    let path = directory.join(KEYS);
    let unusable = |error| WitnessError::DataDirectory(directory.to_owned(), error);
    let wrong = |error| WitnessError::Keys(path.clone(), error);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().map(|line| CosigningKey::parse(line).map_err(wrong)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut seeds = [[0_u8; 32]; 2];
            for seed in &mut seeds {
                getrandom::fill(seed).map_err(WitnessError::Random)?;
            }
            let [ed25519, ml_dsa_44] = seeds;
            let keys = vec![
                CosigningKey::ed25519(name, ed25519).map_err(wrong)?,
                CosigningKey::ml_dsa_44(name, ml_dsa_44).map_err(wrong)?,
            ];
            let text: Vec<String> = keys.iter().map(CosigningKey::to_secret_text).collect();
            files::create_secret(&path, &(text.join("\n") + "\n")).map_err(unusable)?;
            Ok(keys)
        }
        Err(error) => Err(unusable(error)),
    }
}

/// Routes requests to a witness.
pub(crate) fn router(served: Served) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin}/checkpoint", get(checkpoint))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(Arc::new(served))
}

async fn add_checkpoint(State(served): State<Arc<Served>>, body: Bytes) -> Response {
    // The disk is synchronous.
    let answer = tokio::task::spawn_blocking(move || served.add(&body)).await;
    match answer {
        Ok(Ok(lines)) => lines.into_response(),
        Ok(Err(AddError::Refused(refusal))) => {
            let status = StatusCode::from_u16(refusal.status());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            tracing::info!(status = status.as_u16(), %refusal, "Refused to cosign.");
            let content_type = [(header::CONTENT_TYPE, refusal.content_type())];
            (status, content_type, refusal.body()).into_response()
        }
        Ok(Err(AddError::Disk(error))) => {
            tracing::error!(%error, "Cannot store a checkpoint, so it is not cosigned.");
            (StatusCode::INTERNAL_SERVER_ERROR, "the checkpoint cannot be stored\n").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

enum AddError {
    Refused(Refusal),
    Disk(io::Error),
}

impl Served {
    /// Takes the data directory, and makes keys if there are none.
    pub(crate) fn open(settings: Settings) -> Result<Self, WitnessError> {
        let Settings { data_dir, name, logs, listen: _ } = settings;
        let unusable = |error| WitnessError::DataDirectory(data_dir.clone(), error);
        let directory = Directory::take(&data_dir).map_err(unusable)?;
        let keys = keys(&data_dir, &name)?;
        for key in &keys {
            tracing::info!(verifier = %key.verifier(), "Cosigning with this key.");
        }
        let witness = logs.into_iter().fold(Witness::new(keys), Witness::with_log);
        for origin in witness.origins() {
            let path = monitoring_path(origin);
            let place = data_dir.join(&path);
            std::fs::create_dir_all(place.parent().unwrap_or(&data_dir)).map_err(unusable)?;
            tracing::info!(
                origin,
                path,
                "Cosigning this ledger; its last checkpoint is served there."
            );
        }
        Ok(Self { witness, directory: Mutex::new(directory) })
    }

    /// Cosigns, and makes that durable before it is answered.
    fn add(&self, body: &[u8]) -> Result<String, AddError> {
        let received = self.witness.receive(body).map_err(AddError::Refused)?;
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        let path = monitoring_path(received.origin());
        let last = directory.read(&path).map_err(AddError::Disk)?;
        let last = last.map(|bytes| Note::parse(&String::from_utf8_lossy(&bytes))).transpose();
        let stored = |_| AddError::Refused(Refusal::Stored(received.origin().to_owned()));
        let last = last.map_err(stored)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let cosigned = self.witness.cosign(received, last.as_ref(), now.as_secs());
        let cosigned = cosigned.map_err(AddError::Refused)?;
        let text = cosigned.checkpoint.to_string();
        directory.replace(&path, text.as_bytes()).map_err(AddError::Disk)?;
        Ok(cosigned.answer)
    }
}

async fn checkpoint(
    State(served): State<Arc<Served>>,
    RequestPath(origin): RequestPath<String>,
) -> Response {
    let known = served.witness.origins().map(monitoring_path);
    let asked = format!("{origin}/checkpoint");
    let Some(path) = known.into_iter().find(|path| *path == asked) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let found = tokio::task::spawn_blocking(move || {
        served.directory.lock().unwrap_or_else(PoisonError::into_inner).read(&path)
    });
    match found.await {
        Ok(Ok(Some(text))) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Starts a witness of a log. Returns its lines in a policy: one for each of its keys, the second under the
/// name with `-pq`.
#[cfg(test)]
pub(crate) async fn start(directory: &Path, name: &str, log: VerifierKey) -> [String; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let url = format!("http://{listen}/");
    let served = Served::open(Settings {
        data_dir: directory.to_owned(),
        name: format!("{name}.example/w"),
        logs: vec![log],
        listen,
    });
    let router = router(served.unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let keys = std::fs::read_to_string(directory.join(KEYS)).unwrap();
    let keys: Vec<_> =
        keys.lines().map(|key| CosigningKey::parse(key).unwrap().verifier()).collect();
    let [ed25519, ml_dsa_44] = &keys[..] else { panic!("{} keys", keys.len()) };
    [format!("witness {name} {ed25519} {url}\n"), format!("witness {name}-pq {ml_dsa_44} {url}\n")]
}
