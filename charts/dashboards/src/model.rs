//! Dashboards, rows and panels, with what all of Daylight's have in common.

use serde_json::{Value, json};

/// A dashboard: variables and rows.
pub(crate) struct Dashboard {
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// After `datasource`, which every dashboard has.
    pub(crate) variables: Vec<Value>,
    /// In addition to those to the other dashboards.
    pub(crate) links: Vec<Value>,
    pub(crate) rows: Vec<Row>,
}

/// A heading, and panels of one height from left to right.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) height: u64,
    pub(crate) panels: Vec<Panel>,
}

pub(crate) fn row(title: &'static str, height: u64, panels: Vec<Panel>) -> Row {
    Row { title, height, panels }
}

/// A panel, `width` of 24 columns wide.
pub(crate) struct Panel {
    width: u64,
    json: Value,
}

/// Colours of threshold steps, each from its value on; the first has none.
type Steps = &'static [(Option<f64>, &'static str)];

fn steps_json(steps: Steps) -> Value {
    steps.iter().map(|(value, color)| json!({"value": value, "color": color})).collect()
}

/// One figure of each series: its latest value.
fn latest() -> Value {
    json!({"calcs": ["lastNotNull"], "fields": "", "values": false})
}

/// Anything above 0 needs attention.
pub(crate) const BAD_ABOVE_ZERO: Steps = &[(None, "green"), (Some(0.001), "red")];

/// 1 while an emergency stop is in force, as the controller that leads sees it: others show 0.
pub(crate) const EMERGENCY_STOP: &str =
    "max(daylight_emergency_stop and on (instance) daylight_leader == 1)";

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn panel(kind: &str, title: &str, description: &str, unit: &str, width: u64) -> Panel {
    Panel {
        width,
        json: json!({
            "type": kind,
            "title": title,
            "description": description,
            "datasource": source(),
            "targets": [],
            "fieldConfig": {
                "defaults": {
                    "unit": unit,
                    "mappings": [],
                    "color": {"mode": "thresholds"},
                    "thresholds": {"mode": "absolute", "steps": [{"color": "text", "value": null}]},
                },
                "overrides": [],
            },
            "options": {},
        }),
    }
}

/// One figure: its latest value.
pub(crate) fn stat(
    title: &str,
    description: &str,
    unit: &str,
    width: u64,
    expression: &str,
) -> Panel {
    let mut panel = panel("stat", title, description, unit, width);
    panel.json["options"] = json!({
        "reduceOptions": latest(),
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": true,
        "showPercentChange": false,
    });
    panel.ask(expression, "", "time_series", true)
}

/// Lines over time.
pub(crate) fn graph(title: &str, description: &str, unit: &str, width: u64) -> Panel {
    let mut panel = panel("timeseries", title, description, unit, width);
    panel.json["fieldConfig"]["defaults"]["color"] = json!({"mode": "palette-classic"});
    panel.json["fieldConfig"]["defaults"]["min"] = json!(0);
    panel.json["fieldConfig"]["defaults"]["custom"] = json!({
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "never",
        "spanNulls": false,
        "stacking": {"mode": "none", "group": "A"},
    });
    panel.json["options"] = json!({
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    });
    panel
}

/// One bar for each series.
pub(crate) fn bars(title: &str, description: &str, unit: &str, width: u64) -> Panel {
    let mut panel = panel("bargauge", title, description, unit, width);
    panel.json["options"] = json!({
        "reduceOptions": latest(),
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "color",
        "namePlacement": "auto",
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 48,
        "showUnfilled": true,
    });
    panel
}

/// A table of the latest values: each query is a column (see [`Panel::column`]), and rows are
/// joined by their labels.
pub(crate) fn table(title: &str, description: &str, unit: &str, width: u64) -> Panel {
    let mut panel = panel("table", title, description, unit, width);
    panel.json["fieldConfig"]["defaults"]["custom"] =
        json!({"align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "minWidth": 60});
    panel.json["options"] = json!({"showHeader": true, "cellHeight": "sm"});
    panel.json["transformations"] = json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {
            "excludeByName": {"Time": true}, "indexByName": {}, "renameByName": {},
        }},
    ]);
    panel
}

impl Panel {
    fn ask(mut self, expression: &str, legend: &str, format: &str, instant: bool) -> Self {
        let targets = self.json["targets"].as_array_mut().expect("panel() makes it an array");
        let reference = char::from(b'A' + u8::try_from(targets.len()).expect("few queries"));
        targets.push(json!({
            "refId": reference.to_string(),
            "datasource": source(),
            "editorMode": "code",
            "expr": expression,
            "legendFormat": legend,
            "format": format,
            "instant": instant,
            "range": !instant,
        }));
        self
    }

    /// A query over time.
    pub(crate) fn line(self, expression: &str, legend: &str) -> Self {
        self.ask(expression, legend, "time_series", false)
    }

    /// A query of the present, such as the bars of [`bars`] show.
    pub(crate) fn now(self, expression: &str, legend: &str) -> Self {
        self.ask(expression, legend, "time_series", true)
    }

    /// The name that Grafana gives to the value of a table's last query.
    fn last_value(&self) -> String {
        let reference = self.json["targets"].as_array().expect("an array").last().expect("one");
        format!("Value #{}", reference["refId"].as_str().expect("a text"))
    }

    /// A column of a table: a query whose value has this name.
    pub(crate) fn column(mut self, name: &str, expression: &str) -> Self {
        self = self.ask(expression, "", "table", true);
        let value = self.last_value();
        let renamed = &mut self.json["transformations"][1]["options"]["renameByName"];
        // Grafana leaves out the letter where there is one query.
        if value == "Value #A" {
            renamed["Value"] = json!(name);
        }
        renamed[value] = json!(name);
        self
    }

    /// A query whose labels are columns, and whose value is not shown.
    pub(crate) fn labels(mut self, expression: &str) -> Self {
        self = self.ask(expression, "", "table", true);
        let value = self.last_value();
        self.json["transformations"][1]["options"]["excludeByName"][value] = json!(true);
        self
    }

    /// The order of a table's columns by their names before they are renamed.
    pub(crate) fn order(mut self, columns: &[&str]) -> Self {
        for (index, column) in columns.iter().enumerate() {
            self.json["transformations"][1]["options"]["indexByName"][*column] = json!(index);
        }
        self
    }

    pub(crate) fn thresholds(mut self, steps: Steps) -> Self {
        self.json["fieldConfig"]["defaults"]["thresholds"]["steps"] = steps_json(steps);
        self
    }

    /// Texts in place of values.
    pub(crate) fn texts(mut self, texts: &[(i64, &str)]) -> Self {
        let options: serde_json::Map<_, _> = texts
            .iter()
            .enumerate()
            .map(|(index, (value, text))| {
                (value.to_string(), json!({"text": text, "index": index}))
            })
            .collect();
        self.json["fieldConfig"]["defaults"]["mappings"] =
            json!([{"type": "value", "options": options}]);
        self
    }

    /// The text where a query has no answer.
    pub(crate) fn none(mut self, text: &str) -> Self {
        self.json["fieldConfig"]["defaults"]["noValue"] = json!(text);
        self
    }

    pub(crate) fn decimals(mut self, decimals: u64) -> Self {
        self.json["fieldConfig"]["defaults"]["decimals"] = json!(decimals);
        self
    }

    pub(crate) fn max(mut self, max: f64) -> Self {
        self.json["fieldConfig"]["defaults"]["max"] = json!(max);
        self
    }

    /// The name of the series in place of its value.
    pub(crate) fn name_only(mut self, legend: &str) -> Self {
        self.json["targets"][0]["legendFormat"] = json!(legend);
        self.json["options"]["textMode"] = json!("name");
        self
    }

    /// Areas on top of each other.
    pub(crate) fn stacked(mut self) -> Self {
        let custom = &mut self.json["fieldConfig"]["defaults"]["custom"];
        custom["fillOpacity"] = json!(60);
        custom["stacking"]["mode"] = json!("normal");
        self
    }

    /// Bars in place of lines.
    pub(crate) fn columns_over_time(mut self) -> Self {
        self.json["fieldConfig"]["defaults"]["custom"]["drawStyle"] = json!("bars");
        self.stacked()
    }

    /// Values hold until the next one.
    pub(crate) fn steps(mut self) -> Self {
        self.json["fieldConfig"]["defaults"]["custom"]["lineInterpolation"] = json!("stepAfter");
        self
    }

    /// One bar a day, which ends at its point in time.
    pub(crate) fn daily(mut self) -> Self {
        self.json["interval"] = json!("1d");
        self.json["fieldConfig"]["defaults"]["custom"]["barAlignment"] = json!(-1);
        self.columns_over_time()
    }

    /// Properties of the series, or of a table's column, of this name.
    pub(crate) fn property(mut self, name: &str, id: &str, value: &Value) -> Self {
        let overrides = self.json["fieldConfig"]["overrides"].as_array_mut().expect("an array");
        let property = json!({"id": id, "value": value});
        match overrides.iter_mut().find(|one| one["matcher"]["options"] == name) {
            Some(one) => one["properties"].as_array_mut().expect("an array").push(property),
            None => overrides.push(json!({
                "matcher": {"id": "byName", "options": name},
                "properties": [property],
            })),
        }
        self
    }

    pub(crate) fn colors(self, colors: &[(&str, &str)]) -> Self {
        colors.iter().fold(self, |panel, (name, color)| {
            panel.property(name, "color", &json!({"mode": "fixed", "fixedColor": color}))
        })
    }

    pub(crate) fn units(self, units: &[(&str, &str)]) -> Self {
        units.iter().fold(self, |panel, (name, unit)| panel.property(name, "unit", &json!(unit)))
    }

    /// A table's column in the colour of its value.
    pub(crate) fn colored(self, column: &str, steps: Steps) -> Self {
        let thresholds = json!({"mode": "absolute", "steps": steps_json(steps)});
        self.property(column, "thresholds", &thresholds).property(
            column,
            "custom.cellOptions",
            &json!({"type": "color-text"}),
        )
    }

    /// A table's column that leads to the registration of its row.
    pub(crate) fn opens_registration(self, column: &str) -> Self {
        self.property(
            column,
            "links",
            &json!([{
                "title": "Open the registration",
                "url": "/d/daylight-registration?${datasource:queryparam}\
                        &var-namespace=${__data.fields.namespace}\
                        &var-registration=${__data.fields.registration}&${__url_time_range}",
                "targetBlank": false,
            }]),
        )
    }
}

/// A variable with the values of a label. With `all`, several can be chosen, or all of them.
pub(crate) fn variable(name: &str, label: &str, query: &str, all: bool) -> Value {
    let mut variable = json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source(),
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": all,
        "includeAll": all,
        "hide": 0,
        "options": [],
        "regex": "",
    });
    if all {
        variable["allValue"] = json!(".*");
        variable["current"] = json!({"text": ["All"], "value": ["$__all"]});
    }
    variable
}

/// A link that shows the dashboard with another range of time.
pub(crate) fn range_link(title: &str, uid: &str, from: &str, to: &str) -> Value {
    json!({
        "type": "link",
        "title": title,
        "url": format!("/d/{uid}?from={from}&to={to}"),
        "asDropdown": false,
        "icon": "bolt",
        "includeVars": true,
        "keepTime": false,
        "tags": [],
        "targetBlank": false,
        "tooltip": "",
    })
}

impl Dashboard {
    /// The dashboard as Grafana imports it.
    pub(crate) fn json(self) -> Value {
        let mut panels = Vec::new();
        let (mut y, mut id) = (0, 0);
        let mut place = |mut panel: Value, x: u64, y: u64, w: u64, h: u64| {
            id += 1;
            panel["id"] = json!(id);
            panel["gridPos"] = json!({"x": x, "y": y, "w": w, "h": h});
            panels.push(panel);
        };
        for row in self.rows {
            let heading = json!({
                "type": "row", "title": row.title, "collapsed": false, "panels": [],
            });
            place(heading, 0, y, 24, 1);
            y += 1;
            let mut x = 0;
            for panel in row.panels {
                if x + panel.width > 24 {
                    (x, y) = (0, y + row.height);
                }
                place(panel.json, x, y, panel.width, row.height);
                x += panel.width;
            }
            y += row.height;
        }
        let mut variables = vec![json!({
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "hide": 0,
            "refresh": 1,
            "regex": "",
            "includeAll": false,
            "multi": false,
            "options": [],
        })];
        variables.extend(self.variables);
        let mut links = vec![json!({
            "type": "dashboards",
            "title": "Daylight",
            "tags": ["daylight"],
            "asDropdown": false,
            "icon": "external link",
            "includeVars": true,
            "keepTime": true,
            "targetBlank": false,
            "tooltip": "",
            "url": "",
        })];
        links.extend(self.links);
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["daylight"],
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "timezone": "browser",
            "time": {"from": "now-24h", "to": "now"},
            "annotations": {"list": []},
            "links": links,
            "templating": {"list": variables},
            "panels": panels,
        })
    }
}
