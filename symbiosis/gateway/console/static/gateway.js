// The gateway's page: spend and savings, LLMs, the prompt box and the latest decisions.

import { get } from "./api.js";
import { showDecisions } from "./decisions.js";
import { byId } from "./elements.js";
import { showSummary } from "./overview.js";
import { startPage } from "./page.js";
import { showModels, startPrompt } from "./prompt.js";

const LATEST = 20;

let hasModels = false;

async function load(isCurrent) {
  const [summary, decisions] = await Promise.all([
    get(`v1/summary?hours=${byId("hours").value}`), get(`v1/decisions?limit=${LATEST}`)]);
  if (!isCurrent()) return;
  showSummary(summary);
  showDecisions(decisions.data);
  if (!hasModels) {
    showModels((await get("v1/models")).data);
    hasModels = true;
  }
}

const renew = startPage(load, {
  isLive: () => byId("live").checked,
  refused: () => {
    byId("headline").textContent = "";
  },
});
byId("hours").addEventListener("change", renew);
byId("live").addEventListener("change", () => byId("live").checked && renew());
startPrompt(renew);
