// One dashboard, drawn with the components that Grafana draws its panels with.

import { createRoot } from 'react-dom/client';
import {
  FieldType, ThemeContext, VizOrientation, applyFieldOverrides, createDataFrame, createTheme,
  dateTime, getDisplayProcessor, getFieldDisplayName, reduceField, standardTransformers,
  standardTransformersRegistry, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries, VizRepeater }
  from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

const { theme: mode, name, dashboard, start, end, variables, answers } = window.shown;
const theme = createTheme({ colors: { mode } });
const timeZone = 'utc';
const timeRange = {
  from: dateTime(start * 1000),
  to: dateTime(end * 1000),
  raw: { from: dateTime(start * 1000), to: dateTime(end * 1000) },
};

const { mergeTransformer, organizeFieldsTransformer } = standardTransformers;
standardTransformersRegistry.setInit(() =>
  [mergeTransformer, organizeFieldsTransformer].map((one) => (
    { id: one.id, name: one.name, transformation: async () => one, editor: () => null })));

// Grafana leaves out of a graph what is not finite.
const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);

/** The answer to a query as Grafana's Prometheus data source returns it. */
function frames(target, result, single) {
  const legend = (labels) =>
    target.legendFormat?.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '') || undefined;
  if (target.format === 'table') {
    if (result.length === 0) return [];
    const labels = [...new Set(result.flatMap((one) => Object.keys(one.metric)))].sort();
    return [createDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: result.map((one) => one.value[0] * 1000) },
        ...labels.map((label) => (
          { name: label, type: FieldType.string, values: result.map((one) => one.metric[label] ?? '') })),
        // One query has the name Value, several have their letters.
        { name: single ? 'Value' : `Value #${target.refId}`, type: FieldType.number,
          values: result.map((one) => number(one.value[1])) },
      ],
    })];
  }
  return result.map(({ metric, value, values = [value] }) => createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000) },
      { name: 'Value', type: FieldType.number, labels: metric,
        config: { displayNameFromDS: legend(metric) }, values: values.map(([, text]) => number(text)) },
    ],
  }));
}

function set(object, path, value) {
  const [first, ...rest] = path.split('.');
  if (rest.length === 0) object[first] = value;
  else set((object[first] ??= {}), rest.join('.'), value);
}

/** Defaults and overrides of the panel, as `applyFieldOverrides` does it with its registry of options. */
function configured(panel, all) {
  let index = 0;
  for (const frame of all) {
    for (const field of frame.fields) {
      const { defaults, overrides } = panel.fieldConfig;
      const config = { ...structuredClone(defaults), ...field.config };
      const shown = getFieldDisplayName(field, frame, all);
      for (const { matcher, properties } of overrides) {
        if (matcher.options === shown || matcher.options === field.name) {
          properties.forEach(({ id, value }) => set(config, id, value));
        }
      }
      // A time and a text have no unit.
      if (field.type !== FieldType.number) delete config.unit;
      config.custom = { ...config.custom };
      field.config = config;
      field.state = { ...field.state, seriesIndex: field.type === FieldType.number ? index++ : undefined };
      field.display = getDisplayProcessor({ field, theme, timeZone });
      field.getLinks = () => (config.links ?? []).map(({ title }) => ({ title, href: '#', origin: field }));
    }
  }
  return all;
}

async function data(panel) {
  let all = panel.targets.flatMap((target, index) => frames(target, answers[panel.id][index], panel.targets.length === 1));
  if (panel.transformations) {
    all = await new Promise((resolve) => {
      transformDataFrame(panel.transformations, all, { interpolate: (text) => text }).subscribe(resolve);
    });
  }
  return configured(panel, all);
}

/** The latest value of each series. */
function latest(panel, all) {
  const values = all.map((frame) => {
    const field = frame.fields.find((one) => one.type === FieldType.number);
    const { lastNotNull } = reduceField({ field, reducers: ['lastNotNull'] });
    return { field, value: { ...field.display(lastNotNull), title: getFieldDisplayName(field, frame, all) } };
  });
  if (values.length > 0) return values;
  const field = { name: '', type: FieldType.number, config: panel.fieldConfig.defaults, values: [] };
  const display = getDisplayProcessor({ field, theme, timeZone });
  return [{ field: { ...field, display }, value: { ...display(null), title: '' } }];
}

function Stat({ panel, all, width, height }) {
  const shown = latest(panel, all);
  return (
    <VizRepeater source={shown} getValues={() => shown} width={width} height={height} itemSpacing={8}
      orientation={VizOrientation.Auto} renderCounter={0}
      renderValue={({ value: { value }, width: w, height: h }) => (
        <BigValue value={value} width={w} height={h} theme={theme} {...panel.options}
          textMode={panel.options.textMode === 'name' && !value.title ? 'auto' : panel.options.textMode}
          colorMode={panel.options.colorMode} count={shown.length} />
      )} />
  );
}

function Bars({ panel, all, width, height }) {
  const shown = latest(panel, all);
  return (
    <VizRepeater source={shown} getValues={() => shown} width={width} height={height} itemSpacing={8}
      orientation={VizOrientation.Horizontal} renderCounter={0} maxVizHeight={panel.options.maxVizHeight}
      minVizHeight={panel.options.minVizHeight}
      renderValue={({ value: { field, value }, width: w, height: h, orientation }) => (
        <BarGauge value={value} field={field.config} display={field.display} width={w} height={h}
          theme={theme} orientation={orientation} displayMode={panel.options.displayMode}
          valueDisplayMode={panel.options.valueMode} showUnfilled={panel.options.showUnfilled} />
      )} />
  );
}

function Graph({ panel, all, width, height }) {
  if (all.length === 0) return <div style={{ padding: 16, opacity: 0.6 }}>No data</div>;
  const day = 86_400_000;
  const range = panel.interval === '1d'
    ? { from: dateTime(start * 1000 - day), to: dateTime(end * 1000 + day) }
    : timeRange;
  return (
    <TimeSeries frames={all} width={width} height={height} timeRange={{ ...range, raw: range }}
      timeZone={timeZone} legend={panel.options.legend} />
  );
}

function Columns({ panel, all, width, height }) {
  if (all.length === 0) return <div style={{ padding: 16, opacity: 0.6 }}>No data</div>;
  return (
    <TableNG data={all[0]} width={width} height={height} timeRange={timeRange} cellHeight="sm"
      fieldConfig={panel.fieldConfig} structureRev={1} enableVirtualization={false} />
  );
}

const KINDS = { stat: Stat, bargauge: Bars, timeseries: Graph, table: Columns };

const COLUMN = 1600 / 24;
const cell = ({ x, y, w, h }) => (
  { position: 'absolute', left: x * COLUMN + 4, top: y * 38, width: w * COLUMN - 8, height: h * 38 - 8 });

function Panel({ panel, all }) {
  const place = cell(panel.gridPos);
  if (panel.type === 'row') {
    return <div style={{ ...place, fontWeight: 500, fontSize: 16, paddingTop: 4 }}>{panel.title}</div>;
  }
  const Kind = KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width}
        height={place.height} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(width, height) => <Kind panel={panel} all={all} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

const pill = {
  border: `1px solid ${theme.colors.border.medium}`, borderRadius: 4, padding: '3px 10px', marginRight: 8,
  background: theme.colors.background.primary, fontSize: 13,
};

function Page({ panels }) {
  const rows = Math.max(...panels.map(({ panel: { gridPos: { y, h } } }) => y + h));
  const chosen = dashboard.templating.list.filter((one) => one.type === 'query');
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{'body { margin: 0 }'}</style>
      <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, width: 1600 }}>
        <div style={{ display: 'flex', alignItems: 'center', padding: '12px 12px 8px', gap: 4 }}>
          <div style={{ fontSize: 20, fontWeight: 500, marginRight: 20 }}>{dashboard.title}</div>
          {chosen.map((one) => (
            <span key={one.name} style={pill}>
              <span style={{ opacity: 0.65 }}>{one.label} </span>{one.multi ? 'All' : variables[one.name]}
            </span>
          ))}
          <span style={{ flex: 1 }} />
          <span style={pill}>
            {timeRange.from.utc().format('YYYY-MM-DD HH:mm')} to {timeRange.to.utc().format('HH:mm')} UTC
          </span>
        </div>
        <div style={{ position: 'relative', height: rows * 38 + 8 }}>
          {panels.map(({ panel, all }) => <Panel key={panel.id} panel={panel} all={all} />)}
        </div>
      </div>
      <div id="drawn" />
    </ThemeContext.Provider>
  );
}

Promise.all(dashboard.panels.map(async (panel) => (
  { panel, all: panel.type === 'row' ? [] : await data(panel) }))).then((panels) => {
  createRoot(document.getElementById('root')).render(<Page panels={panels} />);
});
