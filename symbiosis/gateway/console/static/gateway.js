// The gateway's page: asks for what it shows now and then, and for a key where one is needed.

import { get, key, useKey } from "./api.js";
import { showDecisions } from "./decisions.js";
import { byId, say } from "./elements.js";
import { showSummary } from "./overview.js";
import { showModels, startPrompt } from "./prompt.js";

const INTERVAL_MS = 10000;
const SHARE = 0.05; // of the time, at most, that the gateway spends on this page's sums
const LATEST = 20;

let asked = 0;
let hasModels = false;

async function renew() {
  const turn = ++asked;
  try {
    const [summary, decisions] = await Promise.all([
      get(`v1/summary?hours=${byId("hours").value}`), get(`v1/decisions?limit=${LATEST}`)]);
    if (turn !== asked) return; // a later question has been asked meanwhile
    showSummary(summary);
    showDecisions(decisions.data);
    if (!hasModels) {
      showModels((await get("v1/models")).data);
      hasModels = true;
    }
    say(byId("error"), "");
    byId("key-form").hidden = true;
  } catch (error) {
    if (turn !== asked) return;
    const refused = error.needsKey && key() ? "The gateway refuses this API key." : "The gateway asks for an API key.";
    say(byId("error"), error.needsKey ? refused : error.message);
    if (error.needsKey) {
      byId("headline").textContent = "";
      byId("key-form").hidden = false;
    }
  }
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
  renew();
});
byId("hours").addEventListener("change", renew);
byId("live").addEventListener("change", () => byId("live").checked && renew());
document.addEventListener("visibilitychange", () => !document.hidden && byId("live").checked && renew());
async function live() {
  const start = performance.now();
  if (byId("live").checked && !document.hidden && byId("key-form").hidden) await renew();
  setTimeout(live, Math.max(INTERVAL_MS, (performance.now() - start) / SHARE));
}

startPrompt(renew);
live();
