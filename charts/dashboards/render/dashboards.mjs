// The dashboards of the chart, and what Grafana puts in the place of their variables.

import { readFileSync } from 'node:fs';

export const NAMES = ['fleet', 'registration', 'audit', 'operator'];

export function dashboard(name) {
  const url = new URL(`../../daylight/dashboards/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(url, 'utf8'));
}

/** A query as Grafana sends it: all pools, one registration, and steps of `step` seconds. */
export function expand(query, { variables, multi, seconds, scrape, step }) {
  const values = {
    __range: `${seconds}s`,
    __range_s: seconds,
    // As Grafana's Prometheus data source computes it.
    __rate_interval: `${Math.max(step + scrape, 4 * scrape)}s`,
    ...variables,
  };
  return query.replace(/\$(\w+)/g, (_, name) => (multi.includes(name) ? '.*' : values[name]));
}
