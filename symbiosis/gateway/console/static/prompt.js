// The prompt box: what the router expects, drawn before anything is sent; then the streamed answer and thumbs.

import { complete, get } from "./api.js";
import { openDecision } from "./decisions.js";
import { picture } from "./drawings.js";
import { byId, element, say } from "./elements.js";
import { arms, reason, thumbs } from "./explanation.js";
import { count, fraction, known, milliseconds, seconds, usd } from "./numbers.js";

const PAUSE_MS = 450; // in typing, before a prediction is asked for
const FEWEST_LETTERS = 4;

let refresh = async () => {};
let typed; // timer
let asked = ""; // what the shown prediction is for
let predicting = new AbortController();
let sending = null;

const text = () => byId("prompt").value.trim();
const model = () => byId("policy").value || "auto";
const messages = () => [{ role: "user", content: text() }];

/** Fill the picker: what routes, then single models. */
export function showModels(models) {
  const picker = byId("policy");
  const before = picker.value;
  const ids = models.map(({ id }) => id);
  const routed = ids.filter((id) => id === "auto" || id.startsWith("auto:"));
  const group = (label, list) => (list.length ? [element("optgroup", { label }, list.map((id) =>
    element("option", { value: id }, id)))] : []);
  picker.replaceChildren(...group("the router chooses", routed.length ? routed : ["auto"]),
    ...group("one LLM, not routed", ids.filter((id) => !routed.includes(id))));
  if (ids.includes(before)) picker.value = before;
}

async function predict(pressed) {
  clearTimeout(typed);
  const wanted = `${model()}\n${text()}`;
  if (!text()) {
    if (pressed) complain("Write a prompt first.");
    return;
  }
  if (wanted === asked && !pressed) return;
  predicting.abort();
  predicting = new AbortController();
  const { signal } = predicting;
  const routed = model() === "auto" || model().startsWith("auto:");
  try {
    // `store: false`: a look is no query, and must not count as one.
    const answer = await get("v1/route", { model: routed ? model() : "auto", messages: messages(), store: false }, signal);
    if (signal.aborted) return;
    asked = wanted;
    complain("");
    showPrediction(answer, routed ? null : model());
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  }
}

function showPrediction({ decision, model: served, mode, notice }, named) {
  if (!decision) {
    byId("all-arms").hidden = true;
    byId("prediction").replaceChildren(element("p", { class: "lead" }, notice ?? `${served} answers: nothing is routed now.`));
    return;
  }
  const marked = named ?? served ?? decision.llm;
  const lead = named ? [`${named} is asked, whatever the router says. It says `, reason(decision)] :
    [reason(decision), marked === decision.llm ? "" : ` ${marked} answers all the same: mode ${mode}.`];
  byId("prediction").replaceChildren(element("p", { class: "lead" }, lead), picture(decision, marked));
  byId("expected").replaceChildren(arms(decision));
  byId("all-arms").hidden = false;
}

function complain(message) {
  say(byId("prompt-error"), message);
}

function busy(is) {
  byId("stop").hidden = !is;
  byId("send").disabled = is;
}

async function send() {
  if (sending) return;
  if (!text()) {
    complain("Write a prompt first.");
    byId("prompt").focus();
    return;
  }
  clearTimeout(typed);
  complain("");
  sending = new AbortController();
  busy(true);
  const answer = element("div", { class: "answer", tabindex: 0, role: "region", "aria-label": "Answer", "aria-live": "polite", "aria-busy": "true" });
  const facts = element("p", { class: "note facts", role: "status" }, "Waiting for the first token …");
  const box = byId("answer");
  const turn = element("div", {}, answer, facts); // of its own: the next answer may come before this one is finished
  box.replaceChildren(turn);
  box.hidden = false;
  const start = performance.now();
  const measured = { headers: null, first: null };
  if (`${model()}\n${text()}` !== asked) predict(false);
  try {
    await complete({ model: model(), messages: messages() }, sending.signal, {
      begun: (headers) => {
        measured.headers = headers;
        facts.replaceChildren(...told(measured, null));
      },
      text: (piece) => {
        measured.first ??= (performance.now() - start) / 1000;
        answer.append(piece);
      },
    });
  } catch (error) {
    complain(error.name === "AbortError" ? "Stopped." : error.message);
    if (!answer.textContent) answer.hidden = true;
  }
  measured.total = (performance.now() - start) / 1000;
  answer.setAttribute("aria-busy", "false");
  sending = null;
  busy(false);
  await finish(measured, turn, facts, answer.textContent !== "");
}

async function finish(measured, turn, facts, answered) {
  const id = measured.headers?.get("x-symbiosis-decision");
  if (!id) {
    facts.replaceChildren(...(measured.headers ? told(measured, null) : []));
    return;
  }
  facts.replaceChildren(...told(measured, null));
  if (answered) turn.append(thumbs(id, refresh));
  facts.replaceChildren(...told(measured, await paid(id)));
  await refresh();
  turn.append(element("button", { type: "button", class: "link", click: () => openDecision(id) || refresh() },
    "Why this LLM?"));
}

/** The record of a decision once it says what the answer cost; null if it cannot be read. */
async function paid(id) {
  try {
    for (const pause_ms of [0, 200, 600, 1200]) {
      // The gateway writes it down after the stream's last byte.
      await new Promise((go) => setTimeout(go, pause_ms));
      const stored = await get(`v1/decisions/${encodeURIComponent(id)}`);
      if (known(stored.cost_usd)) return stored;
    }
  } catch {
    // The answer is there; its record may be read later.
  }
  return null;
}

/** What is known of an answer: from its headers, from the clock, and at last from its record. */
function told({ headers, first, total }, stored) {
  const number = (name) => (headers.has(name) ? Number(headers.get(name)) : null);
  const expected = number("x-symbiosis-expected-cost");
  const cost = stored?.cost_usd;
  const fallbacks = number("x-symbiosis-fallbacks");
  const propensity = number("x-symbiosis-propensity");
  const facts = [
    ["model", headers.get("x-symbiosis-model")],
    ["cost", known(cost) ? usd(cost) : known(expected) ? `${usd(expected)} expected` : null],
    ["overhead", milliseconds(number("x-symbiosis-overhead-ms"))],
    ["first token", known(first) ? seconds(first) : null],
    ["whole answer", known(total) ? seconds(total) : null],
    ["propensity", known(propensity) ? fraction(propensity) : null],
    ["fallbacks", fallbacks ? count(fallbacks) : null],
    ["notice", headers.get("x-symbiosis-notice")],
  ];
  return facts.filter(([, value]) => value !== null).map(([name, value]) =>
    element("span", {}, `${name} `, element("b", {}, value)));
}

/** Make the prompt box work; `renew` fetches what the rest of the page shows. */
export function startPrompt(renew) {
  refresh = renew;
  byId("prompt").addEventListener("input", () => {
    clearTimeout(typed);
    if (byId("typing").checked && text().length >= FEWEST_LETTERS) typed = setTimeout(() => predict(false), PAUSE_MS);
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      send();
    }
  });
  byId("policy").addEventListener("change", () => text() && predict(false));
  byId("predict").addEventListener("click", () => predict(true));
  byId("stop").addEventListener("click", () => sending?.abort());
  byId("prompt-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
}
