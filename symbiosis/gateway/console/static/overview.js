// Spend and savings, and one row per LLM, from v1/summary.

import { byId, element, table } from "./elements.js";
import { whisker } from "./drawings.js";
import { count, finePercent, fraction, interval, known, milliseconds, moment, percent, seconds, usd } from "./numbers.js";

const PERIODS = { 1: "the last hour", 24: "the last 24 hours", 168: "the last 7 days", 720: "the last 30 days" };
const CHART_HEIGHT = 230;

function headline(summary) {
  const period = PERIODS[summary.window_hours] ?? `the last ${count(summary.window_hours)} hours`;
  if (!summary.queries) return `No queries in ${period}. Try a prompt below, or call v1/chat/completions with model auto.`;
  const spent = `${usd(summary.spend_usd)} spent in ${period}`;
  const best = summary.best_single;
  if (!best?.llm || !known(summary.saved_usd)) return `${spent}.`;
  const share = known(summary.saved_share) ? `${percent(Math.abs(summary.saved_share))} ` : "";
  const told = summary.saved_usd >= 0 ? `${usd(summary.saved_usd)} saved: ${share}less` :
    `${usd(-summary.saved_usd)} above: ${share}more`;
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

function llmRow(llm, start, stop, strongest) {
  const { quality = {}, latency_s: latency = {}, first_token_s: first = {} } = llm;
  const bounds = known(quality?.mean) && known(quality.low);
  const circuit = llm.drained ? "drained" : llm.circuit ?? "closed";
  return {
    kind: llm.llm === strongest ? "strongest" : "",
    cells: [
      [element("span", { class: "llm" }, llm.llm), element("small", {}, llm.llm === strongest ? " best single LLM" :
        llm.upstream ? ` ${llm.upstream}` : "")],
      [element("meter", { min: 0, max: 1, value: llm.share ?? 0, "aria-hidden": "true" }), percent(llm.share)],
      count(llm.queries),
      usd(llm.spend_usd),
      [seconds(first?.p50), element("small", {}, ` to ${seconds(first?.p90)}`)],
      [seconds(latency?.p50), element("small", {}, ` to ${seconds(latency?.p90)}`)],
      bounds ? [fraction(quality.mean), whisker(quality.mean, quality.low, quality.high, start, stop, interval(quality)),
        element("small", { class: "n" }, `n ${count(quality.n)}`)] : element("small", {}, "no feedback"),
      count(llm.in_flight),
      [element("span", { class: `circuit ${circuit}` }, circuit),
        llm.errors ? element("small", {}, ` ${count(llm.errors)} failed`) : ""],
    ],
  };
}

function llms(summary) {
  if (!summary.llms.length) return element("p", { class: "note" }, "No LLM is configured.");
  const columns = [{ label: "LLM", kind: "name" }, { label: "share", kind: "number share" }, { label: "queries", kind: "number" },
    { label: "spend", kind: "number" }, { label: "first token, half to 90 %", kind: "number" },
    { label: "answer, half to 90 %", kind: "number" }, { label: "quality, 95 % interval", kind: "number quality" },
    { label: "in flight", kind: "number" }, { label: "circuit", kind: "state" }];
  const qualities = summary.llms.map(({ quality }) => quality).filter((quality) => known(quality?.low));
  const start = Math.min(...qualities.map(({ low }) => low));
  const stop = Math.max(...qualities.map(({ high }) => high));
  const ordered = [...summary.llms].sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || (a.llm < b.llm ? -1 : 1));
  return table("LLMs: share of queries, spend, latency, quality and state", columns,
    ordered.map((llm) => llmRow(llm, start, stop, summary.best_single?.llm)));
}

/** Spend so far, ours and the best single LLM's, from what each stretch of time cost. */
function sums(series) {
  let [ours, single] = [0, 0];
  const rows = series.map(({ at, queries, spend_usd: spend, baseline_usd: baseline }) => {
    ours += spend ?? 0;
    single += baseline ?? 0;
    return [at, ours, single, queries];
  });
  return [0, 1, 2, 3].map((column) => rows.map((row) => row[column]));
}

function numbers(series) {
  const [at, ours, single, queries] = sums(series);
  const step = Math.ceil(at.length / 24) || 1;
  const kept = at.map((_, i) => i).filter((i) => i % step === 0 || i === at.length - 1);
  return table("Spend so far", [{ label: "time", kind: "name" }, { label: "queries", kind: "number" },
    { label: "spent so far", kind: "number" }, { label: "best single LLM so far", kind: "number" }],
  kept.map((i) => ({ kind: "", cells: [moment(at[i]), count(queries[i]), usd(ours[i]), usd(single[i])] })));
}

/** The two lines over time. */
class SpendLine {
  constructor(box) {
    this.box = box;
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
      `Spend so far: ${usd(data[1].at(-1))}; ${label} alone: ${usd(data[2].at(-1))}` : "No spend yet");
    const sameName = this.label === label;
    this.data = data;
    this.label = label;
    if (this.plot && sameName) this.plot.setData(data);
    else this.renew();
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
    const value = (_, x) => (x === null || x === undefined ? "" : usd(x));
    this.plot = new window.uPlot({
      width: this.box.clientWidth,
      height: CHART_HEIGHT,
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [{ ...axis, values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1],
        [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
        [1, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1]] },
      { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "$0" : usd(tick))) }],
      series: [
        { label: "until", value: (_, x) => (x === null || x === undefined ? "" : moment(x)) },
        { label: "spent", stroke: colour("--ours"), width: 2, value, points: { show: false } },
        { label: `${this.label} alone`, stroke: colour("--rival"), width: 2, dash: [6, 4], value, points: { show: false } },
      ],
      bands: [{ series: [2, 1], fill: colour("--band") }],
    }, this.data, this.box);
  }
}

function study(summary) {
  const told = [summary.mode && `mode ${summary.mode}`, summary.router && `router ${summary.router}`,
    known(summary.version) && `version ${summary.version}`];
  return told.filter(Boolean).join(" · ");
}

let line = null;

/** Show a summary. */
export function showSummary(summary) {
  byId("state").textContent = study(summary);
  byId("headline").textContent = headline(summary);
  byId("tiles").replaceChildren(...tiles(summary));
  byId("llms").replaceChildren(llms(summary));
  line ??= new SpendLine(byId("spend-line"));
  line.show(summary.series ?? [], summary.best_single?.llm);
  byId("spend-numbers").hidden = !summary.series?.length;
  byId("spend-table").replaceChildren(numbers(summary.series ?? []));
}
