//! The static program and the names of pools: with the image as its root and a resolver configuration
//! as Kubernetes writes it, in a network of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Ended, Outcome, PATIENCE, World, run, unpack};

/// Set in the namespaces, to the program's root.
pub(crate) const INSIDE: &str = "DAYLIGHT_TEST_ROOT";

/// As in a pod whose DNS policy is `ClusterFirst`.
const RESOLVER: &str = "nameserver 127.0.0.77\n\
    search miners.svc.cluster.local svc.cluster.local cluster.local\n\
    options ndots:5\n";

/// An address that the pool has.
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);
/// An address from which nothing returns. The resolver prefers it to [`HERE`].
const NOWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const PORT: u16 = 3333;

/// A bridge without ports takes packets and passes none on. Its neighbour's address is known, so that
/// a connection to it waits instead of failing.
const NETWORK: &str = "\
    ip link set lo up
    ip link add out type bridge
    ip link set out up
    ip address add 192.0.2.5/24 dev out
    ip address add 2001:db8::2/64 dev out nodad
    ip neighbour add 2001:db8::1 lladdr 02:00:00:00:00:01 dev out nud permanent
    exec \"$@\"";

pub(crate) fn it_resolves_names_as_in_a_pod(world: &World) -> Outcome {
    let built = world.miner()?;
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("root");
    unpack(&built.path("layout"), &root)?;
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/resolv.conf"), RESOLVER)?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    fs::write(root.join("wallet"), "bc1qexample\n")?;
    run(Command::new("unshare")
        .args(["--net", "--", "sh", "-ec", NETWORK, "sh"])
        .arg(std::env::current_exe()?)
        .env(INSIDE, &root))?;
    Ok(())
}

/// The test, in its network.
pub(crate) fn inside(root: &Path) -> ExitCode {
    match resolve(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn resolve(root: &Path) -> Outcome {
    let zone = BTreeMap::from([
        // A Service of the pod's own namespace.
        ("pool.miners.svc.cluster.local", Answers { a: Some(HERE), aaaa: None }),
        ("pool.example.com", Answers { a: Some(HERE), aaaa: None }),
        ("both.example.com", Answers { a: Some(HERE), aaaa: Some(NOWHERE) }),
    ]);
    let names = Server::start(zone)?;
    let logins = pool()?;
    for (name, asked) in [
        ("pool", "pool.miners.svc.cluster.local"),
        ("pool.example.com", "pool.example.com"),
        ("pool.example.com.", "pool.example.com"),
        ("both.example.com", "both.example.com"),
    ] {
        names.forget();
        let began = Instant::now();
        let mut agent = Command::new("chroot");
        agent.arg(root).args(["/daylight-miner", "run", "--record", "/record"]);
        agent.env("ENGINE", "sha256d").env("THREADS", "1");
        agent.env("POOL_ENDPOINTS", format!("{name}:{PORT}")).env("WALLET_FILE", "/wallet");
        let agent = Ended(agent.stdin(Stdio::null()).spawn()?);
        let line = logins.recv_timeout(PATIENCE).map_err(|_| format!("no login for {name}"))?;
        assert!(line.contains("mining."), "{name}: {line}");
        let took = began.elapsed();
        drop(agent);
        let queries = names.queries();
        let both = [(asked.to_owned(), A), (asked.to_owned(), AAAA)];
        assert!(both.iter().all(|query| queries.contains(query)), "{name}: {queries:?}");
        // With fewer dots than `ndots`, the search list is first. A final dot turns it off.
        let searched = format!("{name}.miners.svc.cluster.local");
        let searches = queries.iter().any(|(query, _)| *query == searched);
        assert_eq!(searches, !name.ends_with('.'), "{name}: {queries:?}");
        // The address that does not answer costs a quarter of a second, not a timeout.
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
    }
    Ok(())
}

/// A pool that sends the first line of each connection to the test, and keeps the connection.
fn pool() -> Outcome<Receiver<String>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    let (lines, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lines = lines.clone();
            thread::spawn(move || first_line(stream, &lines));
        }
    });
    Ok(received)
}

fn first_line(stream: TcpStream, lines: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_ok() {
        // The test ends while connections are open.
        let _ = lines.send(line.clone());
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {}
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// Addresses of a name.
#[derive(Clone, Copy)]
struct Answers {
    a: Option<Ipv4Addr>,
    aaaa: Option<Ipv6Addr>,
}

/// A DNS server that knows some names.
struct Server {
    queries: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Server {
    fn start(zone: BTreeMap<&'static str, Answers>) -> Outcome<Self> {
        let socket = UdpSocket::bind("127.0.0.77:53")?;
        let queries = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&queries);
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut packet) {
                let Some((name, kind, end)) = question(&packet[..length]) else { continue };
                let reply = reply(&packet[..end], kind, zone.get(name.as_str()).copied());
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((name, kind));
                let _ = socket.send_to(&reply, client);
            }
        });
        Ok(Self { queries })
    }

    fn queries(&self) -> Vec<(String, u16)> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

const HEADER: usize = 12;

/// Returns name, type and end of a packet's only question (RFC 1035, section 4.1.2).
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

/// Answers a packet that ends with its question.
fn reply(query: &[u8], kind: u16, answers: Option<Answers>) -> Vec<u8> {
    let address = answers.and_then(|Answers { a, aaaa }| match kind {
        A => a.map(|address| address.octets().to_vec()),
        AAAA => aaaa.map(|address| address.octets().to_vec()),
        _ => None,
    });
    let mut reply = query.to_vec();
    // A response, recursion available; NXDOMAIN for a name that does not exist.
    reply[2..4].copy_from_slice(&[0x81, if answers.is_some() { 0x80 } else { 0x83 }]);
    reply[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The question's name, its type, class IN, 30 s.
        reply.extend([0xc0, HEADER as u8]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 30, 0, address.len() as u8]);
        reply.extend(address);
    }
    reply
}
