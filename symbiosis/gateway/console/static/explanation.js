// Why a decision was taken: a sentence, its arms as a table, and thumbs for its answer.

import { get } from "./api.js";
import { bar, barScale, kindOf, whisker } from "./drawings.js";
import { drawn, element, say, table } from "./elements.js";
import { count, finePercent, fraction, known, milliseconds, percent, seconds, signed, usd } from "./numbers.js";

const SHOWN = 12; // arms before one asks for the others

/** The decision in a sentence. */
export function reason(decision) {
  const arm = decision.arms.find(({ llm }) => llm === decision.llm);
  const allowed = decision.arms.filter(({ admissible }) => admissible).length;
  if (!arm) return `${decision.llm} was chosen.`;
  const others = decision.arms.length - allowed;
  const best = !decision.arms.some((other) => other.admissible && other.score > arm.score);
  const why = !best ? `drawn to explore, with ${count(allowed)} allowed` : allowed === 1 && others ?
    "the only one that is allowed" : `the best score of ${count(allowed)}`;
  return `${decision.llm}: ${why}${others ? `, ${count(others)} are not` : ""}. Expected quality ` +
    `${fraction(arm.quality)} (${fraction(arm.quality_low)} to ${fraction(arm.quality_high)}), ${usd(arm.cost_usd)}, ` +
    `answer in ${seconds(arm.completion_s)}.`;
}

function legend(arms) {
  const parts = [...new Set(arms.flatMap(({ parts: names }) => Object.keys(names)))];
  return element("p", { class: "note legend" }, "Score: ", parts.map((part) =>
    element("span", { class: "entry" },
      drawn("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
        drawn("rect", { class: kindOf(part), width: 10, height: 10 })), part)),
  element("span", { class: "entry" },
    drawn("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
      drawn("line", { class: "sum", x1: 5, x2: 5, y1: 0, y2: 10 })), "sum"));
}

function rows(arms, decision, start, stop, scale) {
  return arms.map((arm) => {
    const chosen = arm.llm === decision.llm;
    const parts = Object.entries(arm.parts).map(([name, value]) => `${name} ${signed(value)}`).join(", ");
    const bounds = `interval ${fraction(arm.quality_low)} to ${fraction(arm.quality_high)}`;
    return {
      kind: chosen ? "ours" : arm.admissible ? "" : "refused",
      cells: [
        [element("span", { class: "llm" }, arm.llm), chosen ? element("small", {}, " chosen") :
          arm.admissible ? "" : element("small", {}, " not allowed")],
        [fraction(arm.quality), whisker(arm.quality, arm.quality_low, arm.quality_high, start, stop, bounds)],
        usd(arm.cost_usd),
        seconds(arm.wait_s),
        seconds(arm.completion_s),
        percent(arm.probability),
        [bar(arm, scale, parts), element("span", { class: "figure" }, signed(arm.score))],
      ],
    };
  });
}

/** The arms of a decision, best score first, the score's parts as stacked bars. */
export function arms(decision) {
  const ordered = [...decision.arms].sort((a, b) =>
    (b.llm === decision.llm) - (a.llm === decision.llm) || b.admissible - a.admissible || b.score - a.score);
  const start = Math.min(...ordered.map((arm) => arm.quality_low));
  const stop = Math.max(...ordered.map((arm) => arm.quality_high));
  const scale = barScale(ordered);
  const columns = [{ label: "LLM", kind: "name" }, { label: "expected quality", kind: "number long" },
    { label: "cost", kind: "number" }, { label: "wait", kind: "number" }, { label: "answer in", kind: "number" },
    { label: "chance", kind: "number" }, { label: "score", kind: "number score long" }];
  const make = (shown) => table("What was expected of each LLM", columns, rows(shown, decision, start, stop, scale));
  const box = element("div", {}, legend(ordered), make(ordered.slice(0, SHOWN)));
  if (ordered.length > SHOWN) {
    const all = element("button", { type: "button", click: () => {
      box.querySelector(".fitted").replaceWith(make(ordered));
      all.remove();
    } }, `Show all ${count(ordered.length)}`);
    box.append(all);
  }
  return box;
}

function calls(list) {
  if (!list?.length) return null;
  const columns = [{ label: "call", kind: "name" }, { label: "outcome", kind: "long" },
    { label: "first token", kind: "number" }, { label: "whole answer", kind: "number" },
    { label: "prompt tokens", kind: "number" }, { label: "answer tokens", kind: "number" }, { label: "cost", kind: "number" }];
  return [element("h3", {}, "Calls"), table("Calls of this decision", columns, list.map((call) => ({
    kind: "",
    cells: [call.llm, call.error ?? (known(call.status) ? `status ${call.status}` : "unfinished"), seconds(call.first_token_s),
      seconds(call.total_s), count(call.prompt_tokens), count(call.response_tokens), usd(call.cost_usd)],
  })))];
}

/** What feedback says, in words; empty without any. */
export function opinion(feedback) {
  if (!feedback) return "";
  const value = known(feedback.satisfied) || typeof feedback.satisfied === "boolean" ?
    (feedback.satisfied ? "good" : "bad") : `quality ${fraction(feedback.quality)}`;
  const check = String(feedback.source ?? "").startsWith("check:") ? `, by check ${feedback.source.slice(6)}` : "";
  return value + check;
}

const HAND = "M7 10v11M3 10h4v11H3zM7 12l4-9c1.7 0 2.7 1.2 2.5 2.8L13 9h6.2c1.3 0 2.2 1.2 1.9 2.4l-2 7.6" +
  "c-.3 1.2-1.3 2-2.5 2H7";

function thumb(good, press) {
  return element("button", { type: "button", class: good ? "thumb good" : "thumb bad", "aria-pressed": "false", click: press },
    drawn("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: good ? "hand" : "hand down" },
      drawn("path", { d: HAND })),
    good ? "Good answer" : "Bad answer");
}

/** Thumbs for the answer of a decision. `given` is called once the gateway has taken the feedback. */
export function thumbs(id, given = () => {}) {
  const acknowledged = element("span", { role: "status", class: "acknowledged" });
  const failed = element("span", { role: "alert", class: "error", hidden: true });
  const press = async (satisfied) => {
    for (const button of buttons) button.disabled = true;
    say(failed, "");
    try {
      await get("v1/feedback", { decision: id, satisfied });
      buttons[satisfied ? 0 : 1].setAttribute("aria-pressed", "true");
      acknowledged.textContent = `Recorded as a ${satisfied ? "good" : "bad"} answer. Thank you: the router learns from it.`;
      given(satisfied);
    } catch (error) {
      for (const button of buttons) button.disabled = error.status === 409;
      say(failed, error.message);
    }
  };
  const buttons = [thumb(true, () => press(true)), thumb(false, () => press(false))];
  return element("div", { class: "thumbs" }, buttons, acknowledged, failed);
}

/** A decision as the API gives it, explained. */
export function explanation(stored, given) {
  const { decision } = stored;
  const facts = [["decision", stored.id ?? decision?.id], ["router", decision?.router && `${decision.router}, version ${decision.version}`],
    ["objective", decision?.objective], ["propensity", finePercent(stored.propensity ?? decision?.propensity)],
    ["overhead", known(stored.overhead_ms) && milliseconds(stored.overhead_ms)], ["key", stored.api_key]].filter(([, value]) => value);
  const answered = stored.served && stored.served !== stored.llm ? ` ${stored.served} answered in its place.` : "";
  const told = opinion(stored.feedback);
  return element("div", { class: "explanation" },
    stored.text ? element("blockquote", {}, stored.text) : null,
    element("p", {}, decision ? reason(decision) + answered :
      `${stored.served ?? stored.llm} answered without a decision by the router.`),
    decision ? arms(decision) : null,
    calls(stored.calls),
    element("p", { class: "note facts" }, facts.map(([name, value]) => element("span", {}, `${name} `, element("code", {}, value)))),
    told ? element("p", {}, `Feedback: ${told}.`) : stored.served ? thumbs(stored.id, given) : null);
}
