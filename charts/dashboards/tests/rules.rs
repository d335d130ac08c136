//! What every dashboard keeps to, as far as that can be said without a Grafana and a Prometheus.
//! The end-to-end test `dashboards` asks each query of a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use daylight_dashboards::{all, text};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The panels of a dashboard that are not headings, each with its name for messages.
fn panels(file: &str, dashboard: &Value) -> Vec<(String, Value)> {
    let all = array(&dashboard["panels"]).iter();
    all.filter(|panel| panel["type"] != "row")
        .map(|panel| (format!("{file} {}", panel["title"]), panel.clone()))
        .collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn the_chart_has_what_the_sources_say() {
    let directory = repository().join("charts/daylight/dashboards");
    let found: BTreeSet<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let made = all();
    assert_eq!(found, made.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, dashboard) in made {
        let file = std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(file == text(&dashboard), "{name}: run `cargo dashboards` and commit the result");
    }
}

#[test]
fn grafana_can_import_them() {
    let mut uids = BTreeSet::new();
    for (file, dashboard) in all() {
        assert_eq!(dashboard["schemaVersion"], 39, "{file}: the one that Grafana 11 began with");
        assert!(dashboard["id"].is_null(), "{file}: Grafana gives the id");
        assert!(uids.insert(dashboard["uid"].to_string()), "{file}: a uid twice");
        assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource", "{file}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in array(&dashboard["panels"]) {
            let name = format!("{file} {}", panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: an id twice");
            let at = |what: &str| panel["gridPos"][what].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: wider than the page");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{name}: covers another panel");
                }
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    // Grafana's ids of units: an unknown one is shown as text behind the number.
    let units =
        ["short", "s", "bytes", "percentunit", "watt", "kwatth", "cpm", "Hs", "dateTimeAsIso"];
    for (file, dashboard) in all() {
        let mut titles = BTreeSet::new();
        for (name, panel) in panels(file, &dashboard) {
            let description = panel["description"].as_str().unwrap();
            assert!(description.ends_with('.'), "{name}: {description:?}");
            let defaults = &panel["fieldConfig"]["defaults"];
            let unit = defaults["unit"].as_str().unwrap();
            assert!(units.contains(&unit), "{name}: {unit}");
            let steps = array(&defaults["thresholds"]["steps"]);
            assert!(steps[0]["value"].is_null(), "{name}: the first threshold has no value");
            let values: Vec<_> = steps[1..].iter().map(|step| step["value"].as_f64()).collect();
            assert!(values.is_sorted() && !values.contains(&None), "{name}: {values:?}");
            assert!(!array(&panel["targets"]).is_empty(), "{name}: no query");
            // A title may be that of a figure and of its history, but not of two of one kind.
            let (title, kind) = (panel["title"].to_string(), panel["type"].to_string());
            assert!(titles.insert((title, kind)), "{name}: twice");
        }
    }
}

#[test]
fn every_query_asks_the_chosen_data_source() {
    for (file, dashboard) in all() {
        let variables: BTreeSet<_> = array(&dashboard["templating"]["list"])
            .iter()
            .map(|one| one["name"].as_str())
            .collect();
        for (name, panel) in panels(file, &dashboard) {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}");
            let mut references = BTreeSet::new();
            for target in array(&panel["targets"]) {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}");
                assert_ne!(target["instant"], target["range"], "{name}");
                assert!(references.insert(target["refId"].to_string()), "{name}: a refId twice");
                let query = target["expr"].as_str().unwrap();
                for rest in query.split('$').skip(1) {
                    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                    let used = &rest[..end.unwrap_or(rest.len())];
                    // The last is a group of label_replace(), which Grafana leaves as it is.
                    let known = ["__range", "__range_s", "__rate_interval", "1"].contains(&used);
                    assert!(known || variables.contains(&Some(used)), "{name}: ${used}");
                }
            }
        }
    }
}

/// `increase()` extrapolates, so that a figure which an officer files would be wrong; and a figure of
/// the selected range next to one since the journal began would be read as one of the same time.
#[test]
fn figures_are_what_they_seem_to_be() {
    for (file, dashboard) in all() {
        for (name, panel) in panels(file, &dashboard) {
            let targets = array(&panel["targets"]);
            let queries: Vec<_> = targets.iter().map(|one| one["expr"].as_str().unwrap()).collect();
            assert!(!queries.iter().any(|query| query.contains("increase(")), "{name}");
            let of_range = queries.iter().filter(|query| query.contains("$__range")).count();
            assert!(of_range == 0 || of_range == queries.len(), "{name}: of two times");
        }
    }
}

/// The metrics of docs/metrics.md with their labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(repository().join("docs/metrics.md"));
    let page = page.expect("the page is there");
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`'));
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
        metrics.entry(cells[0].trim_matches('`').to_owned()).or_default().extend(labels);
    }
    metrics
}

/// The metrics in a query, each with the labels that it matches.
fn metrics(query: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        let end = rest[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let end = end.map_or(rest.len(), |end| start + end);
        let word = &rest[start..end];
        rest = &rest[end..];
        if !["daylight_", "process_", "apiserver_"].iter().any(|prefix| word.starts_with(prefix)) {
            continue;
        }
        let matchers = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let labels = matchers.map_or("", |(inner, _)| inner).split(',');
        let labels =
            labels.filter_map(|one| one.split_once(['=', '!'])).map(|(name, _)| name.trim());
        found.push((word, labels.collect()));
    }
    found
}

#[test]
fn every_metric_is_documented_with_its_labels() {
    let page = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let documented = documented();
    let mut asked = 0;
    for (file, dashboard) in all() {
        let variables = array(&dashboard["templating"]["list"]).iter();
        let variables = variables.filter_map(|one| one["definition"].as_str());
        let variables = variables.map(|query| ("a variable".to_owned(), query.to_owned()));
        let mut queries: Vec<_> = variables.collect();
        for (name, panel) in panels(file, &dashboard) {
            let targets = array(&panel["targets"]).iter();
            queries.extend(
                targets.map(|one| (name.clone(), one["expr"].as_str().unwrap().to_owned())),
            );
        }
        for (name, query) in &queries {
            for (metric, labels) in metrics(query) {
                asked += 1;
                // The API server's own are named on the page, outside of the tables.
                if metric.starts_with("apiserver_") {
                    assert!(page.contains(metric), "{name}: {metric}");
                    continue;
                }
                let part = ["_bucket", "_sum", "_count"].iter();
                let base = part.filter_map(|part| metric.strip_suffix(part));
                let base = base.chain([metric]).find_map(|base| documented.get(base));
                let known = base.unwrap_or_else(|| panic!("{name}: {metric} is not documented"));
                for label in labels {
                    assert!(
                        known.contains(label) || label == "le",
                        "{name}: {metric} has no {label}"
                    );
                }
            }
        }
    }
    assert!(asked > 80, "only {asked} metrics found in the queries");
}

#[test]
fn links_lead_to_dashboards_and_their_variables() {
    let all = all();
    let uid = |dashboard: &Value| dashboard["uid"].as_str().unwrap().to_owned();
    let mut followed = 0;
    for (file, dashboard) in &all {
        // Links between dashboards are by tag.
        assert_eq!(dashboard["links"][0]["tags"], dashboard["tags"], "{file}");
        let mut urls: Vec<_> =
            array(&dashboard["links"]).iter().map(|link| link["url"].clone()).collect();
        for (_, panel) in panels(file, dashboard) {
            for one in array(&panel["fieldConfig"]["overrides"]) {
                let links = array(&one["properties"]).iter().filter(|one| one["id"] == "links");
                urls.extend(
                    links.flat_map(|links| array(&links["value"])).map(|link| link["url"].clone()),
                );
            }
        }
        for url in urls.iter().filter_map(Value::as_str).filter(|url| !url.is_empty()) {
            followed += 1;
            let (path, parameters) = url.split_once('?').unwrap();
            let target = path.strip_prefix("/d/").unwrap();
            let found = all.iter().find(|(_, one)| uid(one) == target);
            let (_, found) = found.unwrap_or_else(|| panic!("{file}: {url}"));
            let variables = array(&found["templating"]["list"]);
            for parameter in parameters.split('&').filter_map(|one| one.strip_prefix("var-")) {
                let name = parameter.split('=').next();
                assert!(variables.iter().any(|one| one["name"].as_str() == name), "{file}: {url}");
            }
        }
    }
    assert!(followed >= 4, "{followed} links followed");
}
