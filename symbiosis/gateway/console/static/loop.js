// How models reach users: champion and candidate, what the gate said, drift, and the last scheduled run.

import { byId, drawn, element, table } from "./elements.js";
import { clock, known, seconds, signed } from "./numbers.js";

const WIDTH = 320;
const MARGIN = 12;
const STANDING = { passed: "passed the gate", refused: "was refused by the gate", unchanged: "is what serves" };

const title = (name) => name[0].toUpperCase() + name.slice(1);
const when = (at) => clock(Date.parse(at) / 1000);

/** A difference with its interval, beside the margin that its lower end must keep. */
function picture({ value, low, high, threshold }) {
  const ends = [value, low, high, threshold, 0].filter(known);
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const room = Math.max((most - least) * 0.08, 1e-9);
  const x = (number) => MARGIN + ((WIDTH - 2 * MARGIN) * (number - least + room)) / (most - least + 2 * room);
  const mark = (number, kind, name) => [
    drawn("line", { x1: x(number), x2: x(number), y1: 4, y2: 30, class: kind }),
    drawn("text", { x: x(number), y: 44, "text-anchor": "middle" }, name)];
  return drawn("svg", { class: "gain", width: WIDTH, height: 50, viewBox: `0 0 ${WIDTH} 50`, role: "img",
    "aria-label": `Difference ${signed(value)}, interval ${signed(low)} to ${signed(high)}, limit ${signed(threshold)}` },
  mark(0, "zero", "0"), known(threshold) ? mark(threshold, "limit", "limit") : [],
  drawn("line", { x1: x(low), x2: x(high), y1: 17, y2: 17, class: "range" }),
  drawn("circle", { cx: x(value), cy: 17, r: 4.5, class: "mean" }));
}

function checks(verdict) {
  const columns = [{ label: "check", kind: "name" }, { label: "value", kind: "number" },
    { label: "interval", kind: "number" }, { label: "", kind: "" }];
  const rows = verdict.checks.map((check) => ({ kind: check.passed ? "" : "failed", cells: [check.name,
    known(check.value) ? signed(check.value) : "", known(check.low) ? `${signed(check.low)} to ${signed(check.high)}` : "",
    check.passed ? "passed" : check.decides === false ? "shown only" : "failed"] }));
  return element("details", {}, element("summary", {}, "All checks"), table("Checks of the gate", columns, rows));
}

function moves(history) {
  if (!history.length) return "";
  return element("details", {}, element("summary", {}, "History"), element("ul", { class: "moves" },
    history.map(({ at, action, version, because }) => element("li", {}, `${when(at)}: ${action} to version ${version}`,
      because ? `, because ${because}` : ""))));
}

function model(name, told) {
  const parts = [element("h3", {}, title(name))];
  if (!told.champion) parts.push(element("p", {}, "Nothing has been promoted: what the pipeline made last serves."));
  else parts.push(element("p", {}, "Champion: ", element("b", {}, `version ${told.champion.version}`),
    ` (${told.champion.digest})`, told.champion.at ? `, since ${when(told.champion.at)}` : ""));
  if (told.verdict) {
    const { verdict } = told;
    parts.push(element("p", { class: `standing ${verdict.standing}` },
      `Candidate version ${verdict.candidate.version} (${verdict.candidate.digest}) ${
        STANDING[verdict.standing] ?? verdict.standing}.`));
    const main = verdict.checks.find((check) => known(check.value) && known(check.low));
    if (main) parts.push(picture(main));
    parts.push(element("p", { class: "note" }, verdict.words));
    if (verdict.checks.length) parts.push(checks(verdict));
  } else parts.push(element("p", { class: "note" }, "The gate has judged no candidate yet."));
  return element("div", { class: "model" }, parts, moves(told.history));
}

/** Draw champion and candidate of both models. */
export function showModels(loop) {
  const opened = new Set([...byId("models").querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  byId("models").replaceChildren(...["router", "recommender"].map((name) => model(name, loop[name])));
  for (const summary of byId("models").querySelectorAll("summary")) {
    if (opened.has(summary.textContent)) summary.parentElement.open = true;
  }
}

/** Say whether the last window is like training, and how far off each measure is. */
export function showDrift(drift) {
  const measures = drift?.measures ?? [];
  const loud = measures.filter(({ alarm }) => alarm);
  byId("drift-words").textContent = !measures.length ? "Too little was asked to tell." : loud.length ?
    `Alarm: ${loud.map(({ name }) => name).join(", ")}.` : "Queries and answers are like those of training.";
  const columns = [{ label: "measure", kind: "name" }, { label: "last window", kind: "number" },
    { label: "alarm from", kind: "number" }, { label: "", kind: "" }];
  const rows = measures.map(({ name, value, threshold, alarm, words }) => ({ kind: alarm ? "failed" : "",
    cells: [name, known(value) ? signed(value) : "–", known(threshold) ? signed(threshold) : "–", words ?? ""] }));
  byId("drift").replaceChildren(rows.length ? table("Measures of drift", columns, rows) : "");
}

/** Tell what the last scheduled run did. */
export function showRun(run) {
  if (!run) {
    byId("run-words").textContent = "None has run in this folder yet.";
    byId("run").replaceChildren();
    return;
  }
  byId("run-words").textContent = `${run.flow}, ${when(run.began)}, ${seconds(run.seconds)}: ${run.words}`;
  const columns = [{ label: "stage", kind: "name" }, { label: "outcome", kind: "" }, { label: "time", kind: "number" }];
  const rows = run.stages.map(({ stage, outcome, seconds: took }) => ({ kind: outcome === "failed" ? "failed" : "",
    cells: [stage, outcome, seconds(took)] }));
  byId("run").replaceChildren(element("details", {}, element("summary", {}, `${rows.length} stages`),
    table("Stages of the last run", columns, rows)));
}
