//! Bar charts as SVG.

use std::fmt::Write as _;

use daylight_meter::Bounded;

use super::content::{ClassSum, Part};
use super::html::Escaped;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// Colours in the style sheet; further classes share the last one.
const COLOURS: usize = 6;

/// Returns a figure with stacked bars, one for each part, and the bounds of their sums.
pub(super) fn chart(
    id: &str,
    title: &str,
    unit: &str,
    parts: &[Part],
    amount: impl Fn(&ClassSum) -> Bounded,
    per: f64,
) -> String {
    let mut names: Vec<&str> =
        parts.iter().flat_map(|part| &part.classes).map(|sum| sum.class.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    // Work is at the bottom of a bar, what is idle above it.
    names.sort_by_key(|name| matches!(*name, "idle" | "unavailable"));
    let scale = |it: u64| it as f64 / per;
    let total = |part: &Part| {
        let amounts = part.classes.iter().map(&amount);
        amounts.fold((0.0, 0.0, 0.0), |(value, lower, upper), it| {
            (value + scale(it.value), lower + scale(it.lower()), upper + scale(it.upper()))
        })
    };
    let most = parts.iter().map(|part| total(part).2).fold(0.0, f64::max);
    let step = tick(most);
    let top = (most / step).ceil().max(1.0) * step;
    let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / top);
    let slot = (WIDTH - LEFT) / parts.len().max(1) as f64;
    let bar = (slot * 0.7).min(40.0);

    let mut svg = String::new();
    let mut line = step;
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>",
        y(0.0)
    );
    while line <= top + step / 2.0 {
        let at = y(line);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            short(line)
        );
        line += step;
    }
    let every = parts.len().div_ceil(16).max(1);
    let same_month = parts.windows(2).all(|two| two[0].label.get(..7) == two[1].label.get(..7));
    for (at, part) in parts.iter().enumerate() {
        let middle = LEFT + slot * (at as f64 + 0.5);
        let mut base = 0.0;
        for (colour, name) in names.iter().enumerate() {
            let Some(sum) = part.classes.iter().find(|sum| sum.class == *name) else { continue };
            let value = scale(amount(sum).value);
            if value <= 0.0 {
                continue;
            }
            let (high, low) = (y(base + value), y(base));
            let _ = write!(
                svg,
                "<rect class=\"{}\" x=\"{:.1}\" y=\"{high:.1}\" width=\"{bar:.1}\" height=\"{:.1}\"/>",
                class(name, colour),
                middle - bar / 2.0,
                low - high
            );
            base += value;
        }
        let (_, lower, upper) = total(part);
        if upper - lower > top / 500.0 {
            let (high, low) = (y(upper), y(lower));
            let half = (bar / 4.0).max(1.5);
            let _ = write!(
                svg,
                "<path class=\"bound\" d=\"M{:.1} {high:.1}h{:.1}M{middle:.1} {high:.1}V{low:.1}M{:.1} {low:.1}h{:.1}\"/>",
                middle - half,
                2.0 * half,
                middle - half,
                2.0 * half
            );
        }
        if at % every == 0 {
            let label = part.label.get(if same_month { 8.. } else { 5.. }).unwrap_or(&part.label);
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - 8.0,
                Escaped(label)
            );
        }
    }
    let legend = names.iter().enumerate().map(|(colour, name)| {
        let class = class(name, colour);
        format!(
            "<span><svg class=\"key\" width=\"12\" height=\"12\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"12\" \
             height=\"12\"/></svg> {}</span> ",
            Escaped(name)
        )
    });
    let legend: String = legend.collect();
    let described = describe(unit, parts, &total);
    format!(
        "<figure>\n<figcaption>{}, in {unit}. The thin lines are the bounds of each sum.</figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-text\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-text\">{}</desc>{svg}</svg>\n\
         <p class=\"legend\">{legend}</p>\n</figure>\n",
        Escaped(title),
        Escaped(title),
        Escaped(&described),
    )
}

/// Describes a chart for those who do not see it.
fn describe(unit: &str, parts: &[Part], total: &impl Fn(&Part) -> (f64, f64, f64)) -> String {
    let most = parts.iter().max_by(|one, other| total(one).0.total_cmp(&total(other).0));
    match (parts, most) {
        ([first, .., last], Some(most)) => format!(
            "Bars from {} to {}. The highest is {} with {:.3} {unit}. The table below has all figures.",
            first.label,
            last.label,
            most.label,
            total(most).0
        ),
        _ => "The table below has the figures.".to_owned(),
    }
}

fn class(name: &str, colour: usize) -> String {
    match name {
        "idle" | "unavailable" => "idle".to_owned(),
        _ => format!("c{}", colour.min(COLOURS - 1)),
    }
}

/// A round step between about four lines.
fn tick(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| it * power >= rough).unwrap_or(10.0);
    step * power
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
