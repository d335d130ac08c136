//! Daylight's ledger and its peers: each accepts what the other one writes, and refuses what was changed.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use daylight_ledger::{
    AddCheckpoint, CHECKPOINT, Checkpoint, CosigningKey, Hash, LogVerifier, Note, Policy,
    SigningKey, TileHashes, TileKind, TilePath, Tree, Witness, prove_consistency, push_entry,
    root_at, serve,
};
use daylight_peers::{Error, LiteWitness, Tessera};
use daylight_testbed::Scratch;
use daylight_testbed::trials::{Outcome, apply, trial};

const ORIGIN: &str = "example.com/ledger";

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, [1; 32]).expect("a key")
}

fn entry(number: u64) -> String {
    format!(r#"{{"entry":"{number}","kind":"test"}}"#)
}

/// Writes a log as the auditor does: the last tile of each level grows in place.
fn write_log(directory: &Path, entries: impl Iterator<Item = String>) -> Outcome<Checkpoint> {
    let mut tree = Tree::new();
    let mut bundles: HashMap<u64, Vec<u8>> = HashMap::new();
    for entry in entries {
        push_entry(bundles.entry(tree.size() / 256).or_default(), entry.as_bytes())?;
        tree.append(Hash::leaf(entry.as_bytes()));
    }
    for (index, bundle) in bundles {
        write(directory, &TilePath::full(TileKind::Entries, index).to_string(), &bundle)?;
    }
    for tile in tree.take_writes() {
        write(directory, &tile.path.whole_name(), &tile.bytes)?;
    }
    let checkpoint = Checkpoint::new(ORIGIN, tree.size(), tree.root());
    write(directory, CHECKPOINT, checkpoint.sign(&[&key()])?.to_string().as_bytes())?;
    Ok(checkpoint)
}

fn write(directory: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap_or(directory))?;
    fs::write(path, bytes)
}

fn files(directory: &Path) -> impl Fn(&str) -> io::Result<Option<Vec<u8>>> + Send + 'static {
    let directory: PathBuf = directory.to_owned();
    move |path| match fs::read(directory.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Change to the files of a log.
type Change = Box<dyn FnOnce(&Path) -> io::Result<()>>;

/// Status and body of a response.
type Response = (u16, Vec<u8>);

/// Web server on the loopback interface, which ends with the process.
fn listen(
    mut answer: impl FnMut(&str, &[u8]) -> io::Result<Response> + Send + 'static,
) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            if let Err(error) = connection.and_then(|stream| respond(stream, &mut answer)) {
                eprintln!("web server: {error}");
            }
        }
    });
    Ok(url)
}

fn respond(
    mut stream: TcpStream,
    answer: &mut impl FnMut(&str, &[u8]) -> io::Result<Response>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (status, body) = answer(path.trim_start_matches('/'), &body)?;
    let kind = if status == 409 { "text/x.tlog.size" } else { "application/octet-stream" };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}

/// Serves a log at an address.
fn publish(directory: &Path, size: u64) -> io::Result<String> {
    let files = files(directory);
    listen(move |path, _| {
        Ok(serve(&files, path, size)?.map_or((404, Vec::new()), |bytes| (200, bytes)))
    })
}

#[apply(trial!)]
async fn tessera_accepts_a_log_and_refuses_each_changed_one() -> Outcome {
    let tessera = Tessera::find().await?;
    let public = key().verifier().to_string();
    // Three levels of tiles, the second and third of which are partial.
    let scratch = Scratch::new()?;
    let checkpoint = write_log(scratch.path(), (0..66_000).map(entry))?;
    tessera.fsck(&publish(scratch.path(), checkpoint.size)?, &public).await?;
    let other = SigningKey::from_seed(ORIGIN, [2; 32])?.verifier().to_string();
    let url = publish(scratch.path(), checkpoint.size)?;
    assert!(matches!(tessera.fsck(&url, &other).await, Err(Error::Refused { .. })));

    let flip = |path: &'static str, at: usize| {
        move |directory: &Path| {
            let mut bytes = fs::read(directory.join(path))?;
            bytes[at] ^= 1;
            fs::write(directory.join(path), bytes)
        }
    };
    let again = |entries: Vec<u64>| {
        move |directory: &Path| -> io::Result<()> {
            let signed = fs::read(directory.join(CHECKPOINT))?;
            fs::remove_dir_all(directory.join("tile"))?;
            write_log(directory, entries.into_iter().map(entry))
                .map_err(|_| io::ErrorKind::Other)?;
            fs::write(directory.join(CHECKPOINT), signed)
        }
    };
    let mut swapped: Vec<u64> = (0..700).collect();
    swapped.swap(3, 600);
    let changes: [(&str, Change); 7] = [
        ("nothing", Box::new(|_| Ok(()))),
        ("a byte of an entry", Box::new(flip("tile/entries/001", 20))),
        ("a byte of a tile", Box::new(flip("tile/0/002", 40))),
        ("a byte of a tile above", Box::new(flip("tile/1/000", 40))),
        ("a digit of the checkpoint's size", Box::new(flip(CHECKPOINT, ORIGIN.len() + 3))),
        ("two entries exchanged", Box::new(again(swapped))),
        ("the last entry dropped", Box::new(again((0..699).collect()))),
    ];
    for (what, change) in changes {
        let scratch = Scratch::new()?;
        let checkpoint = write_log(scratch.path(), (0..700).map(entry))?;
        change(scratch.path())?;
        let verdict = tessera.fsck(&publish(scratch.path(), 700)?, &public).await;
        // Daylight's own verifier agrees.
        let note = Note::parse(&fs::read_to_string(scratch.path().join(CHECKPOINT))?)?;
        let is_signed = Policy::of_log(key().verifier()).verify(&note).is_ok();
        let verifier = LogVerifier::new(&checkpoint);
        let found = verifier.verify(&files(scratch.path()), |_, _| ())?;
        match (what, verdict) {
            ("nothing", Ok(())) => assert!(is_signed && found.is_empty(), "{found:?}"),
            ("nothing", Err(error)) => return Err(error.into()),
            (_, Err(Error::Refused { .. })) => assert!(!is_signed || !found.is_empty(), "{what}"),
            (_, other) => return Err(format!("{what}: {other:?}").into()),
        }
    }
    Ok(())
}

#[apply(trial!)]
async fn tessera_logs_verify_and_are_cosigned() -> Outcome {
    let tessera = Tessera::find().await?;
    let scratch = Scratch::new()?;
    let directory = scratch.path().join("log");

    // A witness, as Tessera asks it for cosignatures.
    let cosigner = CosigningKey::ed25519("example.com/witness", [3; 32])?;
    let witness = Witness::new(vec![cosigner.clone()]).with_log(key().verifier());
    let last: Arc<Mutex<Option<Note>>> = Arc::default();
    let cosigned = last.clone();
    let url = listen(move |path, body| {
        assert_eq!(path, "add-checkpoint");
        let mut last = cosigned.lock().map_err(|_| io::ErrorKind::Other)?;
        let answer = witness
            .receive(body)
            .and_then(|received| witness.cosign(received, last.as_ref(), 1_800_000_000));
        Ok(match answer {
            Ok(answer) => {
                *last = Some(answer.checkpoint);
                (200, answer.answer.into_bytes())
            }
            Err(refusal) => (refusal.status(), refusal.body().into_bytes()),
        })
    })?;
    let policy_text =
        format!("log {}\nwitness w {} {url}\nquorum w\n", key().verifier(), cosigner.verifier());
    let policy: Policy = policy_text.parse()?;
    let policy_file = scratch.path().join("policy");
    fs::write(&policy_file, policy_text)?;

    let secret = key().to_secret_text();
    let mut older: Option<Checkpoint> = None;
    for range in [0..300, 300..1000] {
        let entries: Vec<String> = range.clone().map(entry).collect();
        tessera.append(&directory, &secret, Some(&policy_file), &entries.join("\n")).await?;
        let note = Note::parse(&fs::read_to_string(directory.join(CHECKPOINT))?)?;
        let accepted = policy.verify(&note)?;
        assert_eq!(accepted.checkpoint.size, range.end);
        assert_eq!(accepted.witnesses.len(), 1);

        let mut entries = Vec::new();
        let mut verifier = LogVerifier::new(&accepted.checkpoint);
        if let Some(older) = &older {
            verifier = verifier.continues(older, "older checkpoint");
        }
        let found =
            verifier.verify(&files(&directory), |_, bytes| entries.push(bytes.to_owned()))?;
        assert_eq!(found, []);
        entries.sort();
        let mut expected: Vec<_> =
            (0..range.end).map(|number| entry(number).into_bytes()).collect();
        expected.sort();
        assert!(entries == expected, "the log has other entries");
        older = Some(accepted.checkpoint);
    }
    let bundle = directory.join("tile/entries/000");
    let mut bytes = fs::read(&bundle)?;
    bytes[10] ^= 1;
    fs::write(&bundle, bytes)?;
    let checkpoint = older.ok_or("a checkpoint")?;
    let found = LogVerifier::new(&checkpoint).verify(&files(&directory), |_, _| ())?;
    assert!(!found.is_empty());
    Ok(())
}

#[apply(trial!)]
async fn cosignatures_verify_on_both_sides() -> Outcome {
    let tessera = Tessera::find().await?;
    let checkpoint = Checkpoint::new(ORIGIN, 20_852_163, Hash::leaf(b"root"));
    let signed = checkpoint.sign(&[&key()])?;
    for cosigner in [
        CosigningKey::ed25519("example.com/witness", [3; 32])?,
        CosigningKey::ml_dsa_44("example.com/witness", [3; 32])?,
    ] {
        let public = cosigner.verifier();
        let mut note = signed.clone();
        note.add([cosigner.cosign(&checkpoint, 1_800_000_000)?])?;
        tessera.verify(&public.to_string(), &note.to_string()).await?;
        let changed = note.to_string().replacen("20852163", "20852164", 1);
        assert!(tessera.verify(&public.to_string(), &changed).await.is_err());
    }
    let cosigner = CosigningKey::ml_dsa_44("example.com/witness", [4; 32])?;
    let line = tessera.cosign(&cosigner.to_secret_text(), &signed.to_string()).await?;
    let mut note = signed.clone();
    assert_eq!(note.add_lines(&line, &[cosigner.verifier()])?, 1);
    let other = Checkpoint::new(ORIGIN, 20_852_164, checkpoint.root).sign(&[&key()])?;
    assert!(other.clone().add_lines(&line, &[cosigner.verifier()]).is_err());
    Ok(())
}

/// Posts to a web server that closes the connection afterwards.
fn post(address: &str, path: &str, body: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.as_bytes().to_owned());
    status.zip(body).ok_or_else(|| io::Error::other(response))
}

#[apply(trial!)]
#[ignore = "builds litewitness, which takes two minutes"]
async fn litewitness_cosigns_what_grows() -> Outcome {
    let cosigner = CosigningKey::ed25519("example.com/witness", [5; 32])?;
    let log_key = key().verifier().to_string();
    let witness = LiteWitness::start(cosigner.name(), [5; 32], &log_key).await?;
    let logs = [Scratch::new()?, Scratch::new()?];
    write_log(logs[0].path(), (0..700).map(entry))?;
    write_log(logs[1].path(), (0..700).map(|number| entry(if number == 7 { 8 } else { number })))?;
    let request = |log: &Scratch, old: u64, size: u64, signer: &SigningKey| -> Outcome<_> {
        let files = files(log.path());
        let mut hashes = TileHashes::new(&files, 700);
        let failed = |_| io::Error::other("a tile cannot be read");
        let root = root_at(&mut hashes, size).map_err(failed)?;
        let proof = prove_consistency(&mut hashes, old, size).map_err(failed)?;
        let checkpoint = Checkpoint::new(ORIGIN, size, root).sign(&[signer])?;
        Ok(AddCheckpoint { old, proof, checkpoint })
    };
    let send =
        |request: &AddCheckpoint| post(&witness.address(), "add-checkpoint", &request.to_string());
    let mut old = 0;
    for size in [1, 2, 255, 256, 300, 511, 699] {
        let mut request = request(&logs[0], old, size, &key())?;
        let (status, answer) = send(&request)?;
        let answer = String::from_utf8(answer)?;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(request.checkpoint.add_lines(&answer, &[cosigner.verifier()])?, 1);
        old = size;
    }
    assert_eq!(send(&request(&logs[0], 300, 700, &key())?)?, (409, b"699\n".to_vec()));
    assert_eq!(send(&request(&logs[1], 699, 700, &key())?)?.0, 422);
    let other = SigningKey::from_seed(ORIGIN, [6; 32])?;
    assert_eq!(send(&request(&logs[0], 699, 700, &other)?)?.0, 403);
    Ok(())
}
