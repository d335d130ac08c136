// Draws each dashboard from data.json.gz, in light and dark, into docs/dashboards.
//
//   node render.mjs [NAME...]        CHROMIUM=/usr/bin/chromium

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

import esbuild from 'esbuild';
import { chromium } from 'playwright-core';

import { NAMES, dashboard } from './dashboards.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const wanted = process.argv.length > 2 ? process.argv.slice(2) : NAMES;
const data = JSON.parse(gunzipSync(readFileSync(here('data.json.gz'))));

const bundle = await esbuild.build({
  entryPoints: [here('page.jsx')],
  bundle: true,
  write: false,
  outdir: '/',
  format: 'iife',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'text', '.png': 'dataurl', '.ttf': 'empty' },
  logLevel: 'error',
});
const text = (extension) =>
  bundle.outputFiles.filter((one) => one.path.endsWith(extension)).map((one) => one.text).join('\n');

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
for (const theme of ['light', 'dark']) {
  for (const name of wanted) {
    const { panels } = dashboard(name);
    // All of it is in sight: Grafana draws nothing else.
    const height = Math.max(...panels.map(({ gridPos: { y, h } }) => y + h)) * 38 + 60;
    const page = await browser.newPage({ viewport: { width: 1600, height } });
    page.on('pageerror', (error) => console.error(`${name}: ${error.stack}`));
    page.on('console', (message) => process.env.DEBUG && console.error(message.text()));
    // Nothing is loaded from anywhere.
    await page.route('**', (route) => (route.request().url().startsWith('http://dashboards/')
      ? route.fulfill({ contentType: 'text/html', body: '<!doctype html><div id="root"></div>' })
      : route.abort()));
    await page.goto('http://dashboards/');
    await page.addStyleTag({ content: text('.css') });
    await page.evaluate((shown) => { window.shown = shown; },
      { theme, name, dashboard: dashboard(name), ...data, answers: data.answers[name] });
    await page.addScriptTag({ content: text('.js') });
    await page.waitForSelector('#drawn', { state: 'attached', timeout: 180_000 });
    const tables = panels.filter(({ type }) => type === 'table').length;
    await page.waitForFunction((count) => (
      [...document.querySelectorAll('[role=grid]')].filter((grid) => grid.querySelector('[role=gridcell]')).length === count
    ), tables, { timeout: 60_000 }).catch(() => console.error(`${name}: a table without rows`));
    await page.waitForTimeout(1000);
    const devtools = await page.context().newCDPSession(page);
    // On a busy machine tables are painted late: the largest of some captures has all of them.
    let bytes = Buffer.alloc(0);
    for (let capture = 0; capture < 6; capture += 1) {
      await page.setViewportSize({ width: 1600, height: height + (capture % 2) });
      await page.waitForTimeout(500);
      const { data: picture } = await devtools.send('Page.captureScreenshot', {
        format: 'webp', quality: 80, clip: { x: 0, y: 0, width: 1600, height, scale: 1 },
      });
      const captured = Buffer.from(picture, 'base64');
      if (captured.length > bytes.length) bytes = captured;
    }
    const file = `../../../docs/dashboards/${name}-${theme}.webp`;
    writeFileSync(here(file), bytes);
    console.log(`docs/dashboards/${name}-${theme}.webp: ${Math.round(bytes.length / 1024)} KiB`);
    await page.close();
  }
}
await browser.close();
