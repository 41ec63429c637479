// The latest decisions. Each opens to its explanation.

import { get } from "./api.js";
import { byId, element, say } from "./elements.js";
import { explanation, opinion } from "./explanation.js";
import { clock, fraction, milliseconds, percent, usd } from "./numbers.js";

const shown = new Map(); // the rows by decision

const NAMES = ["time", "LLM", "policy", "quality", "cost", "overhead", "chance", "feedback"];

function values(decision) {
  const served = decision.served ?? decision.llm;
  const fallback = decision.served && decision.served !== decision.llm && decision.mode === "apply";
  const routed = decision.mode !== "explicit" && decision.mode !== "failed-open"; // else nothing was expected
  const cost = decision.cost_usd ?? (routed ? decision.expected_cost_usd : null);
  return [
    clock(decision.at),
    [element("span", { class: "llm" }, served), fallback ? element("small", {}, ` for ${decision.llm}`) : ""],
    [decision.policy || (routed ? "auto" : ""), decision.mode && decision.mode !== "apply" ? element("small", {}, ` ${decision.mode}`) : ""],
    routed ? fraction(decision.quality) : "–",
    [usd(cost), routed && decision.cost_usd === null ? element("small", {}, " expected") : ""],
    milliseconds(decision.overhead_ms),
    routed ? percent(decision.propensity) : "–",
    opinion(decision.feedback) || element("span", { class: "none" }, "–"),
  ];
}

class Row {
  constructor(decision) {
    this.id = decision.id;
    this.at = decision.at;
    this.seen = "";
    this.details = element("div", { id: `why-${decision.id}`, class: "why", hidden: true });
    this.button = element("button", { type: "button", class: "row", "aria-expanded": "false",
      "aria-controls": `why-${decision.id}`, click: () => this.toggle() });
    this.item = element("li", {}, this.button, this.details);
    this.update(decision);
  }

  update(decision) {
    const seen = JSON.stringify(decision);
    if (seen === this.seen) return;
    this.seen = seen;
    const text = decision.text ? [element("span", { class: "text" }, decision.text)] : [];
    this.button.replaceChildren(...values(decision).map((value, i) =>
      element("span", { class: `cell ${NAMES[i]}` }, element("span", { class: "label" }, `${NAMES[i]} `), element("span", {}, value))),
    ...text);
    // Its answer or its feedback has come.
    if (!this.details.hidden && !this.details.contains(document.activeElement)) this.explain();
  }

  async toggle(open = this.details.hidden) {
    this.details.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    if (!this.details.hasChildNodes()) this.details.replaceChildren(element("p", { class: "note" }, "Loading …"));
    await this.explain();
  }

  async explain() {
    try {
      this.details.replaceChildren(explanation(await get(`v1/decisions/${encodeURIComponent(this.id)}`)));
    } catch (error) {
      const failed = element("p", { class: "error", role: "alert" });
      say(failed, error.message);
      this.details.replaceChildren(failed);
    }
  }
}

/** Put a row where its time belongs: a decision is listed once it is answered, so that a later one may come first. */
function place(row, rows) {
  const others = [...shown.values()].filter((other) => other.at <= row.at).sort((a, b) => b.at - a.at);
  rows.insertBefore(row.item, others[0]?.item ?? null);
  shown.set(row.id, row);
}

/** Show a list of decisions, newest first; rows that are open stay so. */
export function showDecisions(list) {
  const box = byId("decisions");
  if (!list.length) {
    box.replaceChildren(element("p", { class: "note" }, "None yet."));
    return;
  }
  let rows = box.querySelector("ol");
  if (!rows) {
    rows = element("ol", { class: "decisions" });
    const head = NAMES.map((name) => element("span", { class: `cell ${name}` }, name));
    box.replaceChildren(element("div", { class: "row head", "aria-hidden": "true" }, head), rows);
  }
  const kept = new Set(list.map(({ id }) => id));
  for (const [id, row] of shown) {
    // An open row stays for its reader though newer ones have come.
    if (!kept.has(id) && row.details.hidden) {
      row.item.remove();
      shown.delete(id);
    }
  }
  for (const decision of [...list].reverse()) {
    const row = shown.get(decision.id);
    if (row) row.update(decision);
    else place(new Row(decision), rows);
  }
}

/** Open a decision in the list and go there. */
export function openDecision(id) {
  const row = shown.get(id);
  if (!row) return false;
  row.toggle(true);
  row.item.scrollIntoView({ block: "start" });
  row.button.focus({ preventScroll: true });
  return true;
}
