// Asks a Prometheus every query of every dashboard, as Grafana would, and keeps the answers.
//
//   node record.mjs http://127.0.0.1:9090 900 namespace=tenant-a registration=kaspa

import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

import { NAMES, dashboard, expand } from './dashboards.mjs';

const [prometheus, seconds, ...pairs] = process.argv.slice(2);
if (!prometheus || !seconds) {
  console.error('usage: node record.mjs PROMETHEUS SECONDS [VARIABLE=VALUE...]');
  process.exit(2);
}
const scrape = 5;
const step = Math.max(scrape, Math.ceil(seconds / 200 / scrape) * scrape);
const until = process.env.UNTIL ? Date.parse(process.env.UNTIL) : Date.now();
const end = Math.floor(until / 1000 / step) * step;
const start = end - Number(seconds);
const variables = Object.fromEntries(pairs.map((pair) => pair.split('=')));

async function ask(path, parameters) {
  const response = await fetch(`${prometheus}/api/v1/${path}`, {
    method: 'POST',
    body: new URLSearchParams(parameters),
  });
  const answer = await response.json();
  if (answer.status !== 'success') {
    throw new Error(`${parameters.query}: ${answer.error}`);
  }
  return answer.data.result;
}

const answers = {};
let empty = 0;
for (const name of NAMES) {
  const { panels, templating } = dashboard(name);
  const multi = templating.list.filter((one) => one.multi).map((one) => one.name);
  answers[name] = {};
  for (const panel of panels.filter((one) => one.type !== 'row')) {
    const of = { variables, multi, seconds, scrape, step };
    answers[name][panel.id] = await Promise.all(
      panel.targets.map(({ expr, instant }) => {
        const query = expand(expr, of);
        if (instant) {
          return ask('query', { query, time: end });
        }
        // Days begin at midnight (UTC), as Grafana aligns them.
        const day = 86_400;
        const range =
          panel.interval === '1d'
            ? { start: Math.floor(start / day) * day, end: Math.ceil(end / day) * day, step: day }
            : { start, end, step };
        return ask('query_range', { query, ...range });
      }),
    );
    if (answers[name][panel.id].every((one) => one.length === 0)) {
      empty += 1;
      console.log(`${name}: ${panel.title} has no data`);
    }
  }
}
const file = new URL('data.json.gz', import.meta.url);
writeFileSync(file, gzipSync(JSON.stringify({ start, end, step, variables, answers }), { level: 9 }));
console.log(`recorded ${seconds} s in steps of ${step} s; ${empty} panels without data`);
