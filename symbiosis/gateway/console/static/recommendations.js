// The recommendation box: a user, a guest's session picked by search, words; and the list with its reasons.

import { get } from "./api.js";
import { byId, drawn, element, say } from "./elements.js";
import { fraction, known, usd } from "./numbers.js";

const PAUSE_MS = 250; // in typing, before a search
const FOUND = 6;
const NEAR = 12; // users suggested
const MOST_WRITTEN_MS = 60000;

let session = []; // {item_id, title}
let typed; // timer
let searching = new AbortController();

const value = (id) => byId(id).value.trim();
const number = (id) => (value(id) === "" ? undefined : Number(value(id)));

function complain(message) {
  say(byId("ask-error"), message);
}

async function search() {
  const words = value("search");
  searching.abort();
  searching = new AbortController();
  const list = byId("found");
  if (!words) {
    list.hidden = true;
    return;
  }
  try {
    const { items } = await get(`v1/items?count=${FOUND}&query=${encodeURIComponent(words)}`, undefined, searching.signal);
    list.replaceChildren(...(items.length ? items.map((item) => element("li", {},
      element("button", { type: "button", class: "link", click: () => add(item) }, item.title))) :
      [element("li", { class: "note" }, "No title has these words.")]));
    list.hidden = false;
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  }
}

function add({ item_id, title }) {
  if (!session.some((item) => item.item_id === item_id)) session.push({ item_id, title });
  byId("search").value = "";
  byId("found").hidden = true;
  byId("search").focus();
  showSession();
}

function showSession() {
  byId("session").replaceChildren(...session.map((item) => element("li", {}, item.title, " ",
    element("button", { type: "button", class: "link", "aria-label": `Remove ${item.title}`, click: () => {
      session = session.filter((other) => other !== item);
      showSession();
    } }, "remove"))));
}

async function nearUsers() {
  try {
    const { users } = await get(`v1/users?count=${NEAR}&prefix=${encodeURIComponent(value("user"))}`);
    byId("users").replaceChildren(...users.map((user) => element("option", { value: user })));
  } catch {
    // A help in typing only: the answer will say what is wrong.
  }
}

/** The request's body: what is empty is left out. */
function wanted() {
  const body = {
    user: value("user") || undefined,
    session: session.map(({ item_id }) => item_id),
    text: value("words") || undefined,
    count: number("count"),
    per_brand_limit: number("per-brand"),
    price_from: number("price-from"),
    price_to: number("price-to"),
    brands: value("brand") ? [value("brand")] : undefined,
    categories: value("category") ? [value("category")] : undefined,
    repeat_purchases: byId("repeats").checked || undefined,
  };
  return body;
}

function whom({ user, session: clicked, text }) {
  const items = clicked.length ? `${clicked.length} ${clicked.length === 1 ? "item" : "items"}` : "";
  const who = user ? [`user ${user}`, items && `with ${items} clicked since`] : items ? [`a guest with ${items}`] : [];
  return [...who, text && `the words “${text}”`].filter(Boolean).join(" and ").replace(" and with", " with");
}

async function ask() {
  const body = wanted();
  if (!body.user && !body.text && !body.session.length) {
    complain("Give a user, an item of a session, or words.");
    return;
  }
  complain("");
  byId("answer-lead").textContent = "Asking …";
  try {
    const answer = await get("v1/recommendations", body, AbortSignal.timeout(MOST_WRITTEN_MS));
    showAnswer(body, answer);
  } catch (error) {
    byId("answer-lead").textContent = "";
    byId("items").replaceChildren();
    complain(error.message);
  }
}

function showAnswer(body, { items, method, note, model }) {
  const how = { model: `by the recommender ${model}`, text: "by their texts alone", popularity: "the most popular" }[method];
  byId("answer-lead").replaceChildren(`For ${whom(body)}, ${how}.`, note ? element("span", { class: "notice" }, ` ${note}`) : "");
  const scores = items.map(({ score }) => score);
  const [least, most] = [Math.min(...scores), Math.max(...scores)];
  const share = (score) => (most > least ? 0.15 + (0.85 * (score - least)) / (most - least) : 1);
  byId("items").replaceChildren(...items.map((item) => shown(item, share(item.score))));
  if (!items.length) byId("answer-lead").append(" No item fits: loosen the filters.");
}

function shown(item, share) {
  const facts = [item.brand, known(item.price) ? usd(item.price) : "", `score ${fraction(item.score)}`].filter(Boolean);
  const bar = drawn("svg", { class: "score", width: 90, height: 8, "aria-hidden": "true" },
    drawn("rect", { width: 90, height: 8, class: "other", rx: 2 }),
    drawn("rect", { width: Math.round(90 * share), height: 8, class: "quality", rx: 2 }));
  const why = element("p", { class: "why-item" }, item.reason || "");
  const more = byId("user").value.trim() ? element("button", { type: "button", class: "link", click: (event) =>
    write(item, why, event.currentTarget) }, "in the model's words") : "";
  return element("li", {}, element("b", {}, item.title), element("p", { class: "note" }, bar, " ", facts.join(" · ")),
    why, more);
}

/** Ask for the reason that the language model writes for one item. */
async function write(item, why, button) {
  button.disabled = true;
  try {
    const body = { user: value("user"), allowed: [item.item_id], count: 1, repeat_purchases: true, written: true };
    const { items } = await get("v1/recommendations", body, AbortSignal.timeout(MOST_WRITTEN_MS));
    why.replaceChildren(item.reason || "", element("i", {}, ` “${items[0]?.written_reason ?? "nothing"}”`));
    button.remove();
  } catch (error) {
    button.disabled = false;
    complain(error.message);
  }
}

/** Make the recommendation box work. */
export function startRecommendations() {
  byId("search").addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(search, PAUSE_MS);
  });
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      byId("found").querySelector("button")?.click();
    }
  });
  byId("user").addEventListener("input", nearUsers);
  byId("empty").addEventListener("click", () => {
    byId("ask-form").reset();
    session = [];
    showSession();
    byId("items").replaceChildren();
    byId("answer-lead").textContent = "The list stands here.";
    complain("");
  });
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  nearUsers();
}
