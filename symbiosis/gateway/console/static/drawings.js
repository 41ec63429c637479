// Pictures as SVG: a whisker, the parts of a score, and the arms of a decision.

import { drawn, element } from "./elements.js";
import { fraction, known, seconds, usd } from "./numbers.js";

/** A value as a dot and its interval as a line, on a scale from `start` to `stop`. */
export function whisker(value, low, high, start, stop, label) {
  const place = (x) => 4 + (stop > start ? Math.min(Math.max((x - start) / (stop - start), 0), 1) : 0.5) * 92;
  return drawn("svg", { class: "whisker", viewBox: "0 0 100 14", role: "img", "aria-label": label },
    drawn("title", {}, label),
    drawn("line", { class: "scale", x1: 2, x2: 98, y1: 7, y2: 7 }),
    drawn("line", { x1: place(low), x2: place(high), y1: 7, y2: 7 }),
    drawn("circle", { cx: place(value), cy: 7, r: 3.5 }));
}

const KINDS = {
  quality: "quality", "lower bound": "quality", "trade-off": "quality", cost: "cost", waiting: "time", lateness: "time",
  uncertainty: "unsure", "binary feedback": "told",
};

/** The CSS class of a part of the score. */
export function kindOf(part) {
  return KINDS[part] ?? "other";
}

/** What bars of several arms have in common: the ends of their scale. */
export function barScale(arms) {
  const sums = arms.flatMap(({ parts }) => {
    const values = Object.values(parts);
    return [values.reduce((sum, x) => sum + Math.min(x, 0), 0), values.reduce((sum, x) => sum + Math.max(x, 0), 0)];
  });
  const [low, high] = [Math.min(0, ...sums), Math.max(0, ...sums)];
  return high > low ? [low, high] : [0, 1];
}

/** The parts of an arm's score as stacked bars, what counts against it to the left of zero; a mark at their sum. */
export function bar(arm, [low, high], label) {
  const place = (x) => (100 * (x - low)) / (high - low);
  let [left, right] = [0, 0];
  const parts = Object.entries(arm.parts).map(([name, value]) => {
    const start = value < 0 ? (left += value) : right;
    if (value > 0) right += value;
    const width = place(start + Math.abs(value)) - place(start);
    return drawn("rect", { class: kindOf(name), x: place(start), y: 2, width, height: 10 });
  });
  const zero = place(0);
  return drawn("svg", { class: "bar", viewBox: "0 0 100 14", preserveAspectRatio: "none", role: "img", "aria-label": label },
    drawn("title", {}, label), parts,
    drawn("line", { class: "zero", x1: zero, x2: zero, y1: 0, y2: 14, "vector-effect": "non-scaling-stroke" }),
    drawn("line", { class: "sum", x1: place(arm.score), x2: place(arm.score), y1: 0, y2: 14,
      "vector-effect": "non-scaling-stroke" }));
}

const MARGIN = { left: 52, right: 16, top: 14, bottom: 38 };
const HEIGHT = 320;
const BUBBLE = 9; // radius at one second; its area grows with the wait
const LARGEST = 40;
const LETTER = 7; // width of a letter, about
const TAB_STOPS = 20; // of a picture, at most: the table below says the same

/** Cost ticks: 1, 2, 5 times powers of ten, thinned out to at most `most`. */
function costTicks(low, high, most) {
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    if (ticks.length <= most || steps.length === 1) return ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0);
  }
  return [];
}

function qualityTicks(low, high) {
  const step = high - low > 0.5 ? 0.2 : high - low > 0.25 ? 0.1 : 0.05;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

function scales(arms, width) {
  const costs = arms.map((arm) => arm.cost_usd).filter((cost) => cost > 0);
  const cheapest = costs.length ? Math.min(...costs) : 1e-6;
  const dearest = costs.length ? Math.max(...costs) : 1e-5;
  const free = arms.some((arm) => !(arm.cost_usd > 0));
  const pad = Math.max((dearest / cheapest) ** 0.09, 1.6);
  const [from, to] = [(free ? cheapest / 3 : cheapest) / pad, dearest * pad];
  const low = Math.max(0, Math.min(...arms.map((arm) => arm.quality_low)) - 0.04);
  const high = Math.min(1, Math.max(...arms.map((arm) => arm.quality_high), low + 0.2) + 0.02);
  const across = width - MARGIN.left - MARGIN.right;
  const up = HEIGHT - MARGIN.top - MARGIN.bottom;
  return {
    from, to, low, high, free: free ? cheapest / 3 : null, cheapest,
    x: (cost) => MARGIN.left + (across * Math.log((cost > 0 ? cost : cheapest / 3) / from)) / Math.log(to / from),
    y: (quality) => MARGIN.top + up * (1 - (quality - low) / (high - low)),
  };
}

function axes(scale, width) {
  const bottom = HEIGHT - MARGIN.bottom;
  const labels = [];
  if (scale.free !== null) labels.push([scale.x(scale.free), "free"]);
  const start = scale.free === null ? scale.from : scale.cheapest / 1.5;
  for (const cost of costTicks(start, scale.to, Math.max(2, Math.floor(width / 95)))) labels.push([scale.x(cost), usd(cost)]);
  return [
    qualityTicks(scale.low, scale.high).map((quality) => [
      drawn("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: scale.y(quality), y2: scale.y(quality) }),
      drawn("text", { x: MARGIN.left - 6, y: scale.y(quality) + 4, "text-anchor": "end" }, fraction(quality)),
    ]),
    labels.map(([x, text]) => [
      drawn("line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: bottom }),
      drawn("text", { x, y: bottom + 16, "text-anchor": "middle" }, text),
    ]),
    drawn("text", { class: "axis", x: (MARGIN.left + width - MARGIN.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" },
      "expected cost (log scale)"),
    drawn("text", { class: "axis", x: 11, y: (MARGIN.top + bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 11 ${(MARGIN.top + bottom) / 2})` }, "expected quality"),
  ];
}

const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

/** Place names beside their dots where nothing else is; those that find no room are left out. */
function names(arms, scale, width, chosen) {
  const taken = arms.map((arm) => {
    const [x, y] = [scale.x(arm.cost_usd), scale.y(arm.quality)];
    return { x: x - 7, y: y - 7, w: 14, h: 14 };
  });
  const whiskers = arms.map((arm) => {
    const [x, top, bottom] = [scale.x(arm.cost_usd), scale.y(arm.quality_high), scale.y(arm.quality_low)];
    return { x: x - 3, y: top, w: 6, h: bottom - top };
  });
  const first = [...arms].sort((a, b) => (b.llm === chosen) - (a.llm === chosen) || b.score - a.score);
  return first.map((arm) => {
    const [x, y, w] = [scale.x(arm.cost_usd), scale.y(arm.quality), LETTER * arm.llm.length];
    const options = [[x + 11, y - 7], [x - 11 - w, y - 7], [x + 8, y - 22], [x + 8, y + 9], [x - 8 - w, y - 22],
      [x - 8 - w, y + 9]].map(([left, top]) => ({ x: left, y: top, w, h: 14 }));
    const inside = (box) => box.x >= MARGIN.left && box.x + w <= width - 2 && box.y >= 2 && box.y + 14 <= HEIGHT - MARGIN.bottom;
    const open = (box) => inside(box) && !taken.some((other) => overlap(box, other));
    const box = options.find((option) => open(option) && !whiskers.some((line) => overlap(option, line))) ??
      options.find(open);
    if (!box) return null;
    taken.push(box);
    const left = box.x < x; // there it ends at the dot, however wide its letters are
    return drawn("text", { class: arm.llm === chosen ? "name chosen" : "name", x: left ? box.x + w : box.x, y: box.y + 11,
      "text-anchor": left ? "end" : "start" }, arm.llm);
  });
}

/** What the picture says of an arm, in a line. */
export function sentence(arm, chosen) {
  const wait = arm.wait_s > 0.05 ? `, waits ${seconds(arm.wait_s)}` : "";
  const role = arm.llm === chosen ? " (chosen)" : arm.admissible ? "" : " (not allowed)";
  return `${arm.llm}${role}: quality ${fraction(arm.quality)} (${fraction(arm.quality_low)} to ` +
    `${fraction(arm.quality_high)}), ${usd(arm.cost_usd)}, done in ${seconds(arm.completion_s)}${wait}`;
}

function draw(arms, chosen, width) {
  const scale = scales(arms, width);
  const marks = arms.map((arm) => {
    const [x, y] = [scale.x(arm.cost_usd), scale.y(arm.quality)];
    const kind = arm.llm === chosen ? "arm chosen" : arm.admissible ? "arm" : "arm refused";
    const wait = arm.wait_s > 0.05 ? Math.min(BUBBLE * Math.sqrt(arm.wait_s), LARGEST) : 0;
    return drawn("g", { class: kind, tabindex: arms.length > TAB_STOPS ? null : 0, role: "img", "aria-label": sentence(arm, chosen) },
      drawn("title", {}, sentence(arm, chosen)),
      wait ? drawn("circle", { class: "wait", cx: x, cy: y, r: wait }) : null,
      drawn("line", { x1: x, x2: x, y1: scale.y(arm.quality_low), y2: scale.y(arm.quality_high) }),
      [arm.quality_low, arm.quality_high].map((end) =>
        drawn("line", { x1: x - 4, x2: x + 4, y1: scale.y(end), y2: scale.y(end) })),
      drawn("circle", { class: "dot", cx: x, cy: y, r: arm.llm === chosen ? 6 : 4.5 }));
  });
  return drawn("svg", { class: "arms", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "group",
    "aria-label": "Expected quality against expected cost, one mark per LLM" },
  axes(scale, width), marks, names(arms, scale, width, chosen));
}

/** The arms of a decision as a picture that keeps the width of its box; `chosen` is marked. */
export function picture(decision, chosen = decision.llm) {
  const arms = decision.arms.filter((arm) => known(arm.quality) && known(arm.cost_usd));
  const waiting = arms.filter((arm) => arm.wait_s > 0.05);
  const longest = Math.max(...waiting.map((arm) => arm.wait_s));
  const box = element("div", { class: "picture" });
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0) box.replaceChildren(draw(arms, chosen, width));
  }).observe(box);
  return element("figure", {}, box, element("figcaption", { class: "note" },
    "Dot: expected quality and cost. Whisker: interval of expected quality. ",
    waiting.length ? `Bubble: how long the LLM is busy before it starts (at most ${seconds(longest)}).` :
      "No LLM is busy: a bubble would show how long it is."));
}
