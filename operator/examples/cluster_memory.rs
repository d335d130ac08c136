//! Memory that the view and the planner of a large cluster take, and the time of one event from
//! its line of JSON to a new plan.
//!
//! ```text
//! cargo run --release -p daylight --example cluster_memory [-- pages]
//! ```
//!
//! An HTTP server in the same process serves 10,000 nodes, 62,000 pods, 200 Miners and 50 approved
//! registrations in their real sizes. It generates each line as it sends it, so that its own memory
//! stays small. The watches read the lines over a socket, as from an API server. With `pages` the
//! server refuses streaming lists.

mod large_site;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daylight::view::View;
use daylight_base::Timestamp;
use daylight_cluster::{Change, Event, Kind, watch};
use daylight_planner::Planner;
use daylight_planner::model::Snapshot;
use futures::{StreamExt as _, stream};
use serde_json::json;

use large_site::{Error, MINER_PODS, Shape, Site, VERSION, median_and_longest};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pages = std::env::args().nth(1).is_some_and(|mode| mode == "pages");
    let site: &Site = Box::leak(Box::new(Site::new(Shape {
        ai_pods: 2_000,
        pools: 1,
        mining_classes: 1,
        ai_classes: 1,
        registrations: 50,
        miners: 200,
        every_limit: false,
    })?));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server =
        Router::new().fallback(move |request| async move { answer(site, pages, &request) });
    tokio::spawn(async move { axum::serve(listener, server).await });

    let bytes = |kind| site.object(kind, 0).to_string().len();
    println!("a pod is {} bytes, a node {}", bytes(Kind::Pod), bytes(Kind::Node));
    print_memory("before")?;

    let config = kube::Config::new(format!("http://{address}").parse()?);
    let client = kube::Client::try_from(config)?;
    let mut watches = watch::start(&client, &watch::Settings::default());
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let mut view = View::new(now);
    let mut planner = Planner::new(Snapshot::default());
    let (mut events, mut deltas) = (Vec::new(), Vec::new());
    let (began, mut count) = (Instant::now(), 0);
    while !view.is_warm() {
        watches.recv_many(&mut events, 256).await;
        for event in events.drain(..) {
            view.apply(event, now, &mut deltas);
        }
        count += deltas.len();
        for delta in deltas.drain(..) {
            planner.apply(delta);
        }
    }
    let seconds = began.elapsed().as_secs_f32();
    print_memory(&format!("listed in {seconds:.1} s, {count} deltas"))?;
    let cluster = view.cluster();
    println!("pods {}, nodes {}", cluster.count(Kind::Pod), cluster.count(Kind::Node));

    let planning = Instant::now();
    let plan = planner.plan(now);
    print_memory(&format!("planned in {} ms", planning.elapsed().as_millis()))?;
    println!("the plan changes {} pods", plan.actions.len());
    drop(plan);

    // The cost of one event: a pod ends and returns.
    let mut times = [const { Vec::new() }; 3];
    for number in (0..MINER_PODS).step_by(97) {
        for phase in ["Succeeded", "Running"] {
            let mut pod = site.object(Kind::Pod, number);
            pod["status"]["phase"] = json!(phase);
            pod["metadata"]["resourceVersion"] = json!((2_000_000 + times[0].len()).to_string());
            let line = pod.to_string();
            let began = Instant::now();
            let event = Event::Pod(Change::Applied(serde_json::from_str(&line)?));
            let read = Instant::now();
            view.apply(event, now, &mut deltas);
            let applied = Instant::now();
            for delta in deltas.drain(..) {
                planner.apply(delta);
            }
            black_box(planner.plan(now));
            times[0].push(read - began);
            times[1].push(applied - read);
            times[2].push(applied.elapsed());
        }
    }
    for (step, times) in ["read", "applied to the view", "planned for"].iter().zip(times) {
        let (median, longest) = median_and_longest(times);
        println!("an event is {step} in {median:.0?} at the median, {longest:.0?} at most");
    }

    // A new leader lists everything again.
    let round = watches.relist();
    let began = Instant::now();
    while !view.cluster().is_fresh(round) {
        watches.recv_many(&mut events, 256).await;
        for event in events.drain(..) {
            view.apply(event, now, &mut deltas);
        }
        deltas.clear();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    print_memory(&format!("listed again in {:.1} s", began.elapsed().as_secs_f32()))
}

/// Prints the resident memory of this process, now and at its peak.
fn print_memory(step: &str) -> Result<(), Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let megabytes = |field: &str| {
        let line = status.lines().find(|line| line.starts_with(field));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    println!("{step:<34}RSS {} MB, at most {} MB", megabytes("VmRSS"), megabytes("VmHWM"));
    Ok(())
}

fn answer(site: &'static Site, pages: bool, request: &Request) -> Response {
    let query: BTreeMap<&str, &str> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|parameter| parameter.split_once('='))
        .collect();
    let kind = match request.uri().path() {
        "/api/v1/pods" => Kind::Pod,
        "/api/v1/nodes" => Kind::Node,
        "/apis/daylight.dev/v1alpha1/gpupools" => Kind::GpuPool,
        "/apis/daylight.dev/v1alpha1/activityclasses" => Kind::ActivityClass,
        "/apis/daylight.dev/v1alpha1/registrations" => Kind::Registration,
        "/apis/daylight.dev/v1alpha1/miners" => Kind::Miner,
        // The site has no object of the other kinds: any of them gives an empty list.
        _ => Kind::Namespace,
    };
    let count = site.count(kind);
    if query.contains_key("sendInitialEvents") {
        if pages {
            let status = json!({"kind": "Status", "status": "Failure", "code": 422, "reason": "Invalid", "message": "", "metadata": {}});
            let response = Response::builder().status(422).body(Body::from(status.to_string()));
            return response.unwrap_or_default();
        }
        let end = json!({"type": "BOOKMARK", "object": {"metadata": {
            "resourceVersion": VERSION.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
        }}});
        let lines = (0..count)
            .map(move |number| {
                format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", site.object(kind, number))
            })
            .chain(std::iter::once(format!("{end}\n")));
        let body = stream::iter(lines.map(Ok::<_, std::io::Error>)).chain(stream::pending());
        return Response::new(Body::from_stream(body));
    }
    if query.contains_key("watch") {
        return Response::new(Body::from_stream(stream::pending::<std::io::Result<String>>()));
    }
    let from: usize = query.get("continue").and_then(|text| text.parse().ok()).unwrap_or(0);
    let limit: usize = query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(count);
    let to = (from + limit).min(count);
    // Each object becomes text at once: a page of JSON values would dominate the measured memory.
    let items: Vec<String> =
        (from..to).map(|number| site.object(kind, number).to_string()).collect();
    let next = if to < count { to.to_string() } else { String::new() };
    let page = format!(
        "{{\"metadata\":{{\"resourceVersion\":\"{VERSION}\",\"continue\":\"{next}\"}},\"items\":[{}]}}",
        items.join(",")
    );
    Response::new(Body::from(page))
}
