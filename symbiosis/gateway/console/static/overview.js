// Spend and savings, and one row per LLM, from v1/summary.

import { byId, drawn, element, table } from "./elements.js";
import { whisker } from "./drawings.js";
import { count, finePercent, fraction, interval, known, milliseconds, moment, percent, seconds, signed,
  usd, usdMore } from "./numbers.js";

const PERIODS = { 1: "the last hour", 24: "the last 24 hours", 168: "the last 7 days", 720: "the last 30 days" };
const CHART_HEIGHT = 230;

function headline(summary) {
  const period = PERIODS[summary.window_hours] ?? `the last ${count(summary.window_hours)} hours`;
  if (!summary.queries) return `No queries in ${period}. Try a prompt below, or call v1/chat/completions with model auto.`;
  const spent = `${usd(summary.spend_usd)} spent in ${period}`;
  const { best_single: best, routed } = summary;
  if (!best?.llm || !known(summary.saved_usd)) return `${spent}.`;
  const which = routed && routed.queries !== summary.queries ? ` on ${count(routed.queries)} routed queries` : "";
  const share = known(summary.saved_share) ? `${percent(Math.abs(summary.saved_share))} ` : "";
  const told = summary.saved_usd >= 0 ? `${usd(summary.saved_usd)} saved${which}: ${share}less` :
    `${usd(-summary.saved_usd)} lost${which}: ${share}more`;
  return `${spent}, ${told} than ${best.llm} alone would have cost (${usd(best.usd)}).`;
}

function tiles(summary) {
  const { overhead_ms: overhead, feedback } = summary;
  const busy = summary.llms.reduce((sum, llm) => sum + (llm.in_flight ?? 0), 0);
  const errors = summary.llms.reduce((sum, llm) => sum + (llm.errors ?? 0), 0);
  const rows = [
    ["queries", count(summary.queries), ""],
    ["saved", percent(summary.saved_share), summary.best_single?.llm ? `against ${summary.best_single.llm} alone` : ""],
    ["overhead", milliseconds(overhead?.p50), `99 % below ${milliseconds(overhead?.p99)}`],
    ["feedback", count(feedback?.n), known(feedback?.rate) ? `on ${finePercent(feedback.rate)} of queries` : ""],
    ["in flight", count(busy), "now"],
    ["failed calls", count(errors), ""],
  ];
  return rows.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, note ? element("small", {}, note) : "")));
}

function range(times) {
  return known(times?.p50) ? [seconds(times.p50), element("small", {}, ` – ${seconds(times.p90)}`)] : "–";
}

function llmRow(llm, start, stop, strongest) {
  const { quality = {}, latency_s: latency = {}, first_token_s: first = {} } = llm;
  const bounds = known(quality?.mean) && known(quality.low);
  const circuit = llm.drained ? "drained" : llm.circuit ?? "closed";
  return {
    kind: llm.llm === strongest ? "strongest" : "",
    cells: [
      [element("span", { class: "llm" }, llm.llm), element("small", {}, llm.llm === strongest ? " best single" :
        llm.upstream ? ` ${llm.upstream}` : "")],
      [element("meter", { min: 0, max: 1, value: llm.share ?? 0, "aria-hidden": "true" }),
        element("span", { class: "figure" }, percent(llm.share))],
      count(llm.queries),
      usd(llm.spend_usd),
      range(first),
      range(latency),
      bounds ? [fraction(quality.mean), whisker(quality.mean, quality.low, quality.high, start, stop, interval(quality)),
        element("small", { class: "n" }, `n ${count(quality.n)}`)] : element("small", {}, "no feedback"),
      count(llm.in_flight),
      count(llm.errors),
      element("span", { class: `circuit ${circuit}` }, circuit),
    ],
  };
}

function llms(summary) {
  if (!summary.llms.length) return element("p", { class: "note" }, "No LLM is configured.");
  const columns = [{ label: "LLM", kind: "name" }, { label: "share", kind: "number share long" }, { label: "queries", kind: "number" },
    { label: "spend", kind: "number" }, { label: "first token, p50–p90", kind: "number long" },
    { label: "answer, p50–p90", kind: "number long" }, { label: "quality, 95 %", kind: "number quality long" },
    { label: "in flight", kind: "number" }, { label: "failed", kind: "number" },
    { label: "circuit", kind: "long" }];
  const qualities = summary.llms.map(({ quality }) => quality).filter((quality) => known(quality?.low));
  const start = Math.min(...qualities.map(({ low }) => low));
  const stop = Math.max(...qualities.map(({ high }) => high));
  const ordered = [...summary.llms].sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || (a.llm < b.llm ? -1 : 1));
  return table("LLMs: share of queries, spend, latency, quality and state", columns,
    ordered.map((llm) => llmRow(llm, start, stop, summary.best_single?.llm)));
}

/** Spend so far, ours and the best single LLM's, at the end of each stretch of time that begins at `at`. */
function sums(series) {
  let [ours, single] = [0, 0];
  const length = series.length > 1 ? series[1].at - series[0].at : 0;
  const rows = series.map(({ at, queries, spend_usd: spend, baseline_usd: baseline }) => {
    ours += spend ?? 0;
    single += baseline ?? 0;
    return [at + length, ours, single, queries];
  });
  if (length) rows.unshift([series[0].at, 0, 0, 0]);
  return [0, 1, 2, 3].map((column) => rows.map((row) => row[column]));
}

function numbers(series) {
  const [at, ours, single, queries] = sums(series);
  const step = Math.ceil(at.length / 24) || 1;
  const kept = at.map((_, i) => i).filter((i) => i % step === 0 || i === at.length - 1);
  return table("Spend so far", [{ label: "time", kind: "name" }, { label: "queries", kind: "number" },
    { label: "spent so far", kind: "number long" }, { label: "best single LLM instead", kind: "number long" }],
  kept.map((i) => ({ kind: "", cells: [moment(at[i]), count(queries[i]), usd(ours[i]), usd(single[i])] })));
}

/** The two lines over time. */
class SpendLine {
  constructor(box) {
    this.box = box;
    this.legend = byId("spend-legend");
    this.plot = null;
    this.data = null;
    new ResizeObserver(() => this.resize()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.renew());
  }

  show(series, best) {
    const data = sums(series);
    const label = best ?? "best single LLM";
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-label", data[0].length ?
      `Spend so far: ${usd(data[1].at(-1))}; ${label} instead of routing: ${usd(data[2].at(-1))}` : "No spend yet");
    const sameName = this.label === label;
    this.data = data;
    this.label = label;
    this.tell(null);
    if (this.plot && sameName) this.plot.setData(data);
    else this.renew();
  }

  /** Say in the legend what the lines are at a place, or at their end. */
  tell(place) {
    const [at, ours, single] = this.data;
    const i = place ?? at.length - 1;
    const entry = (kind, text) => element("span", {}, drawn("svg", { viewBox: "0 0 24 8", class: "stroke", "aria-hidden": "true" },
      drawn("line", { class: kind, x1: 0, x2: 24, y1: 4, y2: 4 })), text);
    this.legend.replaceChildren(...(i < 0 ? [] : [entry("ours", `spent ${usd(ours[i])}`),
      entry("rival", `${this.label} instead of routing ${usd(single[i])}`), element("span", {}, `until ${moment(at[i])}`)]));
  }

  resize() {
    if (this.plot) this.plot.setSize({ width: this.box.clientWidth, height: CHART_HEIGHT });
    else this.renew();
  }

  renew() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.data || !this.box.clientWidth) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
      font: "12px system-ui, sans-serif" };
    this.plot = new window.uPlot({
      width: this.box.clientWidth,
      height: CHART_HEIGHT,
      legend: { show: false },
      hooks: { setCursor: [({ cursor }) => this.tell(cursor.idx)] },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [{ ...axis, values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1],
        [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
        [1, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1]] },
      { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "$0" : usd(tick))) }],
      series: [
        {},
        { stroke: colour("--ours"), width: 2, points: { show: false } },
        { stroke: colour("--rival"), width: 2, dash: [6, 4], points: { show: false } },
      ],
      bands: [{ series: [2, 1], fill: colour("--band") }],
    }, this.data, this.box);
  }
}

function study(summary) {
  const told = [summary.mode && `mode ${summary.mode}`, summary.router && `router ${summary.router.slice(0, 8)}`,
    known(summary.version) && `version ${summary.version}`];
  return told.filter(Boolean).join(" · ");
}

/** Routed queries beside those of the control group. */
function experiment({ routed, control, quality_difference: quality, usd_difference: more }) {
  const groups = [["routed", routed], ["control: the default LLM", control]];
  const bounds = groups.map(([, group]) => group.quality).filter(Boolean);
  const start = Math.min(...bounds.map(({ low }) => low));
  const stop = Math.max(...bounds.map(({ high }) => high));
  const rows = groups.map(([name, group]) => ({ kind: name === "routed" ? "ours" : "strongest", cells: [
    element("span", { class: "llm" }, name), count(group.queries), usd(group.usd_per_query),
    group.quality ? [fraction(group.quality.mean), whisker(group.quality.mean, group.quality.low, group.quality.high, start,
      stop, interval(group.quality)), element("small", { class: "n" }, `n ${count(group.quality.n)}`)] :
      element("small", {}, "no feedback")] }));
  const told = [
    quality && `quality ${signed(quality.mean)} (${signed(quality.low)} to ${signed(quality.high)})`,
    more && `${usdMore(more.mean)} per query (${usdMore(more.low)} to ${usdMore(more.high)})`].filter(Boolean);
  return [element("h3", {}, "A/B"),
    table("Routed queries and the control group", [{ label: "group", kind: "name" }, { label: "queries", kind: "number" },
      { label: "cost per query", kind: "number" }, { label: "quality, 95 %", kind: "number long" }], rows),
    told.length ? element("p", { class: "note" }, `Routed less control: ${told.join("; ")}.`) : ""];
}

/** Whether the router still expects what happens. */
function drift(found) {
  const told = [
    known(found.bias) && `answers are ${fraction(Math.abs(found.bias))} ${found.bias < 0 ? "worse" : "better"} than expected ` +
      `(${signed(found.bias_low)} to ${signed(found.bias_high)}, n ${count(found.judged)})`,
    known(found.calibration_error) && `calibration error ${fraction(found.calibration_error)}` +
      (known(found.training_error) ? `, ${fraction(found.training_error)} in training` : ""),
    known(found.cost_log_ratio) && `costs are ${percent(Math.abs(Math.expm1(found.cost_log_ratio)))} ` +
      `${found.cost_log_ratio < 0 ? "below" : "above"} what was expected`].filter(Boolean);
  return told.length ? element("p", { class: "note" }, `Drift: ${told.join("; ")}.`) : "";
}

let line = null;

/** Show a summary. */
export function showSummary(summary) {
  byId("state").textContent = study(summary);
  byId("headline").textContent = headline(summary);
  byId("tiles").replaceChildren(...tiles(summary));
  byId("llms").replaceChildren(llms(summary));
  byId("checks").replaceChildren(...[summary.ab ? experiment(summary.ab) : "", summary.drift ? drift(summary.drift) : ""]
    .flat().filter(Boolean));
  const series = summary.queries ? summary.series ?? [] : [];
  byId("spend-chart").hidden = !series.length;
  line ??= new SpendLine(byId("spend-line"));
  line.show(series, summary.best_single?.llm);
  byId("spend-table").replaceChildren(numbers(series));
}
