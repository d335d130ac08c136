//! The client against pools that fail, lie and stall, over real sockets.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use daylight_stratum::client::{Client, Config, Fault, State, Verdict};
use daylight_stratum::loopback::{Event, LoopbackPool, Misbehaviour, Setup};
use daylight_stratum::sha256d::{Engine, Kernel};
use daylight_stratum::v1::Redirect;
use daylight_stratum::{Difficulty, Endpoint, Tls, monero, v1};
use sha2::Digest as _;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use x509_cert::der::{Decode as _, Encode as _};

use super::{config, logged_in, mine, monero_pool, no_pool, pool, status, v1_pool};

const HOSTILE: [Misbehaviour; 5] = [
    Misbehaviour::HangsUp,
    Misbehaviour::EndlessLine,
    Misbehaviour::SlowBytes,
    Misbehaviour::Silent,
    Misbehaviour::RefusesLogins,
];

/// Short time limits for pools that waste time.
fn hasty(misbehaviour: Misbehaviour, pools: Vec<Endpoint>) -> Config {
    let mut config = config(pools);
    match misbehaviour {
        Misbehaviour::Silent => config.timing.login = Duration::from_secs(1),
        Misbehaviour::SlowBytes => config.timing.line = Duration::from_secs(1),
        _ => {}
    }
    config
}

#[tokio::test]
async fn a_hostile_pool_costs_nothing_but_the_way_to_the_next() {
    for misbehaviour in HOSTILE {
        let (bad, good) =
            (pool(v1_pool(misbehaviour)).await, pool(v1_pool(Misbehaviour::None)).await);
        let pools = hasty(misbehaviour, vec![bad.endpoint(), good.endpoint()]);
        let client = Client::<v1::Session>::start(pools);
        let status = status(&client, logged_in(1)).await;
        let fault = status.fault.unwrap().to_string();
        let expected = match misbehaviour {
            Misbehaviour::HangsUp => "ended: ",
            Misbehaviour::EndlessLine => {
                "ended: the other side sent a line of more than 65536 bytes"
            }
            Misbehaviour::SlowBytes => "ended: the other side took too long over a line",
            Misbehaviour::Silent => "cannot be reached: the login took too long",
            _ => "refused the login: Unauthorized worker (code 24)",
        };
        assert!(fault.contains(expected), "{misbehaviour:?}: {fault}");
        let (connection, share) = mine(&client).await;
        let verdict = client.shares().submit(connection, share).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted);
    }
}

#[tokio::test]
async fn a_line_that_means_nothing_costs_nothing() {
    for misbehaviour in [Misbehaviour::Garbage, Misbehaviour::HugeNumbers] {
        let pool = pool(v1_pool(misbehaviour)).await;
        let client = Client::<v1::Session>::start(config(vec![pool.endpoint()]));
        let (connection, share) = mine(&client).await;
        let verdict = client.shares().submit(connection, share).await.unwrap();
        let status = client.status().borrow().clone();
        assert_eq!((verdict, status.logins, status.unread_lines), (Verdict::Accepted, 1, 1));
    }
}

#[tokio::test]
async fn a_hostile_monero_pool_costs_nothing_but_the_way_to_the_next() {
    for misbehaviour in HOSTILE {
        let (bad, good) =
            (pool(monero_pool(misbehaviour)).await, pool(monero_pool(Misbehaviour::None)).await);
        let pools = hasty(misbehaviour, vec![bad.endpoint(), good.endpoint()]);
        let client = Client::<monero::Session>::start(pools);
        assert!(status(&client, logged_in(1)).await.fault.is_some(), "{misbehaviour:?}");
    }
}

#[tokio::test]
async fn a_pool_may_hang_up_at_each_step() {
    // configure, subscribe, authorize; then the share.
    for step in 1..=4 {
        let bad = pool(v1_pool(Misbehaviour::HangsUpAfter(step))).await;
        let good = pool(v1_pool(Misbehaviour::None)).await;
        let client = Client::<v1::Session>::start(config(vec![bad.endpoint(), good.endpoint()]));
        if step == 4 {
            let (connection, share) = mine(&client).await;
            assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Lost));
        }
        let status = status(&client, logged_in(1)).await;
        assert!(matches!(status.fault, Some(Fault::Lost { .. })), "{step}: {:?}", status.fault);
        assert_eq!(status.lost, u64::from(step == 4));
    }
}

#[tokio::test]
async fn a_pool_that_never_judges_is_left() {
    let pools =
        [pool(v1_pool(Misbehaviour::NeverJudges)).await, pool(v1_pool(Misbehaviour::None)).await];
    let mut impatient = config(pools.iter().map(LoopbackPool::endpoint).collect());
    impatient.timing.reply = Duration::from_millis(100);
    let client = Client::<v1::Session>::start(impatient);
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share.clone()).await, Ok(Verdict::Lost));
    status(&client, logged_in(1)).await;
    // A share of the connection before does not count on this one.
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Stale));
}

#[tokio::test]
async fn the_first_pool_is_returned_to() {
    let first = pool(v1_pool(Misbehaviour::None)).await;
    let second = pool(v1_pool(Misbehaviour::None)).await;
    let port = first.endpoint().port;
    let mut homesick = config(vec![first.endpoint(), second.endpoint()]);
    homesick.timing.return_to_first = Duration::from_millis(50);
    let client = Client::<v1::Session>::start(homesick);
    status(&client, logged_in(0)).await;
    drop(first);
    status(&client, logged_in(1)).await;
    let first = LoopbackPool::start_on(v1_pool(Misbehaviour::None), port).await.unwrap();
    let status = status(&client, logged_in(0)).await;
    assert_eq!(status.failovers, 2);
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Accepted));
    first.until(|events| events.contains(&Event::Accepted { job: 1 })).await;
    second.until(|events| events.contains(&Event::Left)).await;
}

#[tokio::test]
async fn no_pool_at_all_is_tried_again() {
    let endpoint = no_pool();
    let client = Client::<v1::Session>::start(config(vec![endpoint.clone()]));
    let waiting = status(&client, |status| status.state == State::Waiting).await;
    let fault = waiting.fault.unwrap().to_string();
    assert!(fault.starts_with(&format!("pool {endpoint} cannot be reached: ")), "{fault}");
    let _late = LoopbackPool::start_on(v1_pool(Misbehaviour::None), endpoint.port).await.unwrap();
    status(&client, logged_in(0)).await;
}

#[tokio::test]
async fn redirects_lead_to_declared_hosts_only() {
    let (pool, foreign) =
        (pool(v1_pool(Misbehaviour::None)).await, pool(v1_pool(Misbehaviour::None)).await);
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint()]));
    status(&client, logged_in(0)).await;

    // 127.0.0.2 leads to this machine, too, but is not declared.
    let port = Some(foreign.endpoint().port);
    pool.redirect(Redirect { host: Some("127.0.0.2".into()), port, wait: 0 });
    let refused = status(&client, |status| status.refused_redirects == 1).await;
    assert_eq!(
        refused.fault.unwrap().to_string(),
        format!(
            "pool {} redirects to 127.0.0.2:{}, which is not a declared pool: declare it if you trust it",
            pool.endpoint(),
            foreign.endpoint().port
        )
    );
    // The work continues at the same pool.
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Accepted));
    assert_eq!(foreign.events(), []);

    // The same host is declared, whatever the port.
    pool.redirect(Redirect { host: None, port, wait: 0 });
    foreign.until(|events| events.contains(&Event::LoggedIn("wallet.worker".into()))).await;
}

/// A pool with a certificate that it signed itself, at an endpoint that pins that.
async fn tls_pool() -> (LoopbackPool, Endpoint) {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let pin = sha2::Sha256::digest(key.cert.der()).into();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rcgen::KeyPair::serialize_der(&key.signing_key).try_into().unwrap(),
        )
        .unwrap();
    let pool = pool(Setup { tls: Some(Arc::new(server)), ..v1_pool(Misbehaviour::None) }).await;
    let endpoint = Endpoint { tls: Tls::Pinned(vec![pin]), ..pool.endpoint() };
    (pool, endpoint)
}

#[tokio::test]
async fn a_redirect_to_the_pool_itself_keeps_tls() {
    let (pool, endpoint) = tls_pool().await;
    // Another entry for the same host, without TLS, which comes first.
    let client = Client::<v1::Session>::start(config(vec![no_pool(), endpoint]));
    status(&client, logged_in(1)).await;
    pool.redirect(Redirect { host: None, port: None, wait: 0 });
    let seen = status(&client, |status| status.logins == 2).await;
    assert_eq!(seen.state, State::LoggedIn { pool: 1 });
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Accepted));
}

#[tokio::test]
async fn tls_takes_the_pinned_certificate_and_no_other() {
    let (pool, pinned) = tls_pool().await;
    let client = Client::<v1::Session>::start(config(vec![pinned]));
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Accepted));

    let plain = super::pool(v1_pool(Misbehaviour::None)).await;
    for (endpoint, tls, remedy) in [
        (pool.endpoint(), Tls::Pinned(vec![[7; 32]]), "is one that pool.pins names"),
        (pool.endpoint(), Tls::Roots, "name its SHA-256 in pool.pins"),
        (plain.endpoint(), Tls::Roots, "it does not speak TLS at this port"),
        (pool.endpoint(), Tls::Off, "if its port is for TLS, write tls://"),
    ] {
        let client = Client::<v1::Session>::start(config(vec![Endpoint { tls, ..endpoint }]));
        let waiting = status(&client, |status| status.state == State::Waiting).await;
        let fault = waiting.fault.unwrap().to_string();
        assert!(fault.contains(remedy), "{fault}");
        assert_eq!(waiting.logins, 0);
    }
}

/// A certificate of version 1, which signs itself, and its key: what `openssl x509 -req -signkey` makes
/// where no extensions are asked for.
const VERSION_1: &[u8] = include_bytes!("version-1.pem");

#[tokio::test]
async fn tls_takes_a_pinned_public_key_of_any_version() {
    let certificate = CertificateDer::from_pem_slice(VERSION_1).unwrap();
    let public_key = {
        let read = x509_cert::Certificate::from_der(&certificate).unwrap();
        read.tbs_certificate.subject_public_key_info.to_der().unwrap()
    };
    let digest = |der: &[u8]| -> [u8; 32] { sha2::Sha256::digest(der).into() };
    let pins = vec![[7; 32], digest(&public_key)];
    for version in [&TLS12, &TLS13] {
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::from_pem_slice(VERSION_1).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
                vec![certificate.clone()],
                key,
            ))));
        let pool = pool(Setup { tls: Some(Arc::new(server)), ..v1_pool(Misbehaviour::None) }).await;
        for pins in [pins.clone(), vec![digest(&certificate)]] {
            let pinned = Endpoint { tls: Tls::Pinned(pins), ..pool.endpoint() };
            let client = Client::<v1::Session>::start(config(vec![pinned]));
            let (connection, share) = mine(&client).await;
            let verdict = client.shares().submit(connection, share).await;
            assert_eq!(verdict, Ok(Verdict::Accepted), "{version:?}");
        }
    }
}

#[tokio::test]
async fn bad_shares_are_counted_as_the_pool_has_them() {
    let pool = pool(v1_pool(Misbehaviour::None)).await;
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint()]));
    let shares = client.shares();
    let (connection, share) = mine(&client).await;
    assert_eq!(shares.submit(connection, share.clone()).await, Ok(Verdict::Accepted));
    let code = |verdict| match verdict {
        Ok(Verdict::Rejected(failure)) => failure.code,
        other => panic!("not rejected: {other:?}"),
    };
    assert_eq!(code(shares.submit(connection, share.clone()).await), 22);
    let wrong = v1::Share { nonce: share.nonce + 1, ..share.clone() };
    assert_eq!(code(shares.submit(connection, wrong).await), 23);
    let unknown = v1::Share { job: "none".into(), ..share };
    assert_eq!(shares.submit(connection, unknown).await, Ok(Verdict::Stale));
    let status = client.drain(Duration::from_secs(10)).await;
    assert_eq!((status.accepted, status.rejected, status.stale, status.lost), (1, 2, 1, 0));
    assert_eq!(status.state, State::Drained);
    assert!(status.latency.is_some());
    // A difficulty of a millionth: 2³² millionths of hashes.
    assert_eq!(status.accepted_hashes, 4295);
    pool.until(|events| events.last() == Some(&Event::Left)).await;
}

#[tokio::test]
async fn a_drain_waits_for_the_verdict_on_the_last_share_but_not_for_ever() {
    let good = pool(v1_pool(Misbehaviour::None)).await;
    let client = Client::<v1::Session>::start(config(vec![good.endpoint()]));
    let (connection, share) = mine(&client).await;
    let verdict = client.shares().submit(connection, share);
    assert_eq!(client.drain(Duration::from_secs(10)).await.accepted, 1);
    assert_eq!(verdict.await, Ok(Verdict::Accepted));
    assert!(good.events().contains(&Event::Accepted { job: 1 }));

    let mute = pool(v1_pool(Misbehaviour::NeverJudges)).await;
    let client = Client::<v1::Session>::start(config(vec![mute.endpoint()]));
    let (connection, share) = mine(&client).await;
    let verdict = client.shares().submit(connection, share);
    assert_eq!(client.drain(Duration::from_millis(50)).await.lost, 1);
    assert_eq!(verdict.await, Ok(Verdict::Lost));
    mute.until(|events| events.last() == Some(&Event::Left)).await;

    // Where no pool can be reached, there is nothing to wait for.
    let client = Client::<v1::Session>::start(config(vec![no_pool()]));
    assert_eq!(client.drain(Duration::from_hours(1)).await.state, State::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_follows_difficulty_and_jobs_and_drains_to_the_last_share() {
    let pool = pool(v1_pool(Misbehaviour::None)).await;
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint()]));
    let threads = NonZeroUsize::new(2).unwrap();
    let engine =
        Engine::start(threads, Kernel::fastest(), &client.work(), &client.shares()).unwrap();
    let accepted = |events: &[Event], job| {
        events.iter().filter(|event| **event == Event::Accepted { job }).count()
    };
    pool.until(|events| accepted(events, 1) >= 10).await;

    // A hundred times the difficulty from the next job on, which makes earlier jobs stale.
    pool.set_difficulty(Difficulty::new(1e-4).unwrap());
    let job = pool.new_job(true);
    pool.until(|events| accepted(events, job) >= 5).await;
    let offer = client.work().borrow().clone().unwrap();
    assert_eq!(Some(offer.work.difficulty), Difficulty::new(1e-4));
    assert_eq!(offer.work.job.id, job.to_string());

    // A job that leaves earlier jobs valid.
    let job = pool.new_job(false);
    pool.until(|events| accepted(events, job) >= 5).await;

    let hashes: u64 = tokio::task::spawn_blocking(|| engine.stop().iter().sum()).await.unwrap();
    let status = client.drain(Duration::from_secs(10)).await;
    let events = pool.until(|events| events.last() == Some(&Event::Left)).await;
    let taken = events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
    assert_eq!(status.accepted, taken as u64);
    assert_eq!(status.lost, 0);
    // Shares on their way when the job changed may be stale. No other share fails.
    assert!(events.iter().all(|event| !matches!(event, Event::Rejected(code) if *code != 21)));
    assert!(hashes >= status.accepted, "{hashes} hashes for {} shares", status.accepted);
}
