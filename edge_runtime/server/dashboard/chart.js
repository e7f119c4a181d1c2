// @ts-check
/**
 * The large line: scores over a stretch with thresholds and events, a cursor for pointer and arrow keys, and a stretch
 * that can be marked by dragging.
 */
import { h, say } from "./dom.js";
import { dashed, drawn, scoreLine } from "./draw.js";
import { clock, day, duration, minute, scored, weekday } from "./words.js";

/** @typedef {{start: number, end: number, kind: "event"|"chosen"|"gone"}} Band Seconds since 1970. */
/**
 * @typedef {{from: number, to: number, step: number, scores: [number, number|null][], threshold: number,
 *   trial: number|null, bands: Band[]}} Shown
 */

const LEFT = 30;
const BOTTOM = 18;
const TOP = 6;
/** Steps up to so many seconds are hardly longer than a segment. */
const FINE_S = 4;
/** Seconds between labels of the time axis. */
const STEPS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

/**
 * @param {AbortSignal} signal
 * @param {{label: string, chosen?: (start: number, end: number) => void}} options `chosen` hears of a dragged stretch.
 * @returns {{element: HTMLElement, show: (shown: Shown) => void, set: (change: Partial<Shown>) => void}}
 */
export function chart(signal, { label, chosen }) {
  const canvas = h("canvas", { class: "chart-canvas", "aria-hidden": "true" });
  const words = h("p", { class: "chart-words small muted" });
  const readout = h("output", { class: "readout" });
  const plot = h("div", { class: "plot", tabindex: "0", role: "application", "aria-roledescription": "chart", "aria-label": label, "aria-description": "Left and right arrow read the scores one after another.", "data-keys": "own" }, canvas, readout);
  /** @type {Shown} */
  let shown = { from: 0, to: 1, step: 1, scores: [], threshold: 1, trial: null, bands: [] };
  let cursor = NaN;
  /** @type {number|null} */
  let dragged = null;

  const x = (/** @type {number} */ time) => LEFT + ((time - shown.from) / (shown.to - shown.from)) * (canvas.clientWidth - LEFT - 4);
  const timeAt = (/** @type {number} */ px) => shown.from + (Math.max(0, px - LEFT) / (canvas.clientWidth - LEFT - 4)) * (shown.to - shown.from);
  const dirty = drawn(canvas, (sheet) => {
    const { context, width, height, ink } = sheet;
    const y = (/** @type {number} */ value) => TOP + (1 - value) * (height - BOTTOM - TOP);
    axes(sheet, shown, x, y);
    for (const band of shown.bands) {
      const left = Math.max(LEFT, x(band.start));
      const wide = Math.max(2, x(band.end) - left);
      context.fillStyle = band.kind === "chosen" ? ink["accent-soft"] : ink["alarm-soft"];
      context.fillRect(left, TOP, wide, height - BOTTOM - TOP);
      context.fillStyle = band.kind === "chosen" ? ink.accent : ink.alarm;
      context.fillRect(left, height - BOTTOM, wide, 3);
    }
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, width - LEFT, height - BOTTOM);
    context.clip();
    scoreLine({ ...sheet, height: height - BOTTOM }, shown.scores, { x, y, threshold: shown.threshold, gap: Infinity, width: 1.5 });
    dashed(sheet, y(shown.threshold), ink.muted);
    if (shown.trial !== null) dashed(sheet, y(shown.trial), ink.accent, []);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    for (const [value, colour] of /** @type {[number|null, string][]} */ ([[shown.threshold, ink.muted], [shown.trial, ink.accent]])) {
      context.fillStyle = colour;
      // Where the two are close, each keeps to its own side.
      const below = value !== null && (value === shown.trial ? value < shown.threshold : (shown.trial ?? 0) > value);
      if (value !== null) context.fillText(scored(value), width - 4, y(value) + (below ? 13 : -5));
    }
    context.restore();
    const at = nearest(shown.scores, cursor);
    if (at) {
      const px = Math.round(x(at[0])) + 0.5;
      context.fillStyle = ink.text;
      context.fillRect(px - 0.5, TOP, 1, height - BOTTOM - TOP);
      context.beginPath();
      context.arc(px, y(at[1] ?? 0), 3.5, 0, 7);
      context.fill();
    }
  }, signal);

  const point = (/** @type {number} */ time) => {
    cursor = time;
    const at = nearest(shown.scores, cursor);
    say(readout, at ? `${shown.to - shown.from > 90000 ? `${day(at[0] * 1000)} ` : ""}${clock(at[0] * 1000)} · ${scored(at[1] ?? 0)}${(at[1] ?? 0) > shown.threshold ? " · above the threshold" : ""}` : "");
    dirty();
  };
  const place = (/** @type {PointerEvent} */ event) => timeAt(event.clientX - canvas.getBoundingClientRect().left);
  plot.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    point(place(event));
    if (dragged !== null && chosen) chosen(Math.min(dragged, place(event)), Math.max(dragged, place(event)));
  });
  plot.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    point(place(event));
    if (!chosen || event.button !== 0) return;
    dragged = place(event);
    plot.setPointerCapture(event.pointerId);
  });
  for (const type of ["pointerup", "pointercancel"]) plot.addEventListener(type, () => (dragged = null));
  plot.addEventListener("pointerleave", () => point(NaN));
  plot.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const scores = shown.scores.filter((one) => one[1] !== null);
    const at = nearest(scores, cursor);
    const index = at ? scores.indexOf(at) : scores.length;
    const jump = event.shiftKey ? 10 : 1;
    const next = { ArrowLeft: index - jump, ArrowRight: index + jump, Home: 0, End: scores.length - 1 }[event.key];
    if (next === undefined || !scores.length) return;
    event.preventDefault();
    point(scores[Math.min(scores.length - 1, Math.max(0, next))][0]);
  });
  const set = (/** @type {Partial<Shown>} */ change) => {
    Object.assign(shown, change);
    say(words, told(shown));
    dirty();
  };
  return { element: h("figure", { class: "chart" }, plot, h("figcaption", {}, words)), show: (all) => { shown = { ...all }; set({}); }, set };
}

/** The same in words. @param {Shown} shown */
function told({ from, to, scores, threshold, step, bands }) {
  const known = scores.filter((one) => one[1] !== null);
  if (!known.length) return "No scores in this time.";
  const high = known.reduce((best, one) => (/** @type {number} */ (one[1]) > /** @type {number} */ (best[1]) ? one : best));
  let above = 0;
  scores.forEach(([time, value], at) => {
    // A score holds until the next one; before a hole, for one step.
    if (value !== null && value > threshold) above += scores[at + 1]?.[1] === null || !scores[at + 1] ? step : scores[at + 1][0] - time;
  });
  const events = bands.filter((band) => band.kind === "event").length;
  // A wide step is as high as its highest score, so how long it was above cannot be told.
  const time = !above ? "never above" : step > FINE_S ? "at times above" : `about ${duration(above)} above`;
  const at = to - from > 90000 ? `${day(high[0] * 1000)}, ` : "";
  return `Highest ${scored(/** @type {number} */ (high[1]))} at ${at}${clock(high[0] * 1000)}; ${time} the threshold ${scored(threshold)}${events > 1 ? `; ${events} alarms` : ""}.`;
}

/** @param {[number, number|null][]} scores By time. @param {number} time @returns {[number, number|null]|null} */
function nearest(scores, time) {
  if (Number.isNaN(time) || !scores.length) return null;
  let [low, high] = [0, scores.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle][0] < time) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && time - scores[low - 1][0] < scores[low][0] - time) low--;
  return scores[low][1] === null ? null : scores[low];
}

/** @param {import("./draw.js").Sheet} sheet @param {Shown} shown @param {(t: number) => number} x @param {(v: number) => number} y */
function axes({ context, width, height, ink }, { from, to }, x, y) {
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const value of [0, 0.5, 1]) {
    context.fillStyle = ink.line;
    context.fillRect(LEFT, Math.round(y(value)), width - LEFT, 1);
    context.fillStyle = ink.muted;
    context.fillText(value.toFixed(1), LEFT - 6, Math.min(height - BOTTOM, Math.max(TOP + 2, y(value))));
  }
  const step = STEPS.find((one) => (to - from) / one <= (width - LEFT) / 64) ?? 86400;
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  for (let time = Math.ceil((from - zone) / step) * step + zone; time <= to; time += step) {
    const label = step >= 86400 ? weekday(time * 1000) : step < 60 ? clock(time * 1000) : minute(time * 1000);
    context.fillStyle = ink.line;
    context.fillRect(Math.round(x(time)), height - BOTTOM, 1, 4);
    if (x(time) < LEFT + 16 || x(time) > width - 18) continue;
    context.fillStyle = ink.muted;
    context.fillText(label, x(time), height - 3);
  }
}
