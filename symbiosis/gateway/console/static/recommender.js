// The recommender's page: recommendations, champion and candidate with the gate's verdict, drift, the last run.

import { get } from "./api.js";
import { showDrift, showModels, showRun } from "./loop.js";
import { startPage } from "./page.js";
import { startRecommendations } from "./recommendations.js";

async function load(isCurrent) {
  const [loop, summary] = await Promise.all([get("v1/loop"), get("v1/summary?hours=24")]);
  if (!isCurrent()) return;
  showModels(loop);
  showDrift(summary.drift);
  showRun(loop.last_run);
}

startPage(load);
startRecommendations();
