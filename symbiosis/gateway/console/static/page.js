// What every page does: asks now and then, says in one line what went wrong, and asks for a key where one is needed.

import { key, useKey } from "./api.js";
import { byId, say } from "./elements.js";

const INTERVAL_MS = 10000;
const SHARE = 0.05; // of the time, at most, that the gateway spends on a page's sums

/**
 * Load a page's contents now and then; return a function that does so at once.
 *
 * `load` is called with a function that tells whether its answers are still wanted, `isLive` tells whether to ask again
 * by itself, and `refused` is called when a key is missing.
 */
export function startPage(load, { isLive = () => true, refused = () => {} } = {}) {
  let asked = 0;

  async function renew() {
    const turn = ++asked;
    const isCurrent = () => turn === asked; // no later question has been asked meanwhile
    try {
      await load(isCurrent);
      if (!isCurrent()) return;
      say(byId("error"), "");
      byId("key-form").hidden = true;
    } catch (error) {
      if (!isCurrent()) return;
      const wrong = key() ? "The gateway refuses this API key." : "The gateway asks for an API key.";
      say(byId("error"), error.needsKey ? wrong : error.message);
      if (error.needsKey) {
        refused();
        byId("key-form").hidden = false;
      }
    }
  }

  async function live() {
    const start = performance.now();
    if (isLive() && !document.hidden && byId("key-form").hidden) await renew();
    setTimeout(live, Math.max(INTERVAL_MS, (performance.now() - start) / SHARE));
  }

  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key").value.trim());
    byId("key").value = "";
    renew();
  });
  document.addEventListener("visibilitychange", () => !document.hidden && isLive() && renew());
  live();
  return renew;
}
