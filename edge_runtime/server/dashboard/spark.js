// @ts-check
/** The small line of a tile: a camera's score over the last ten minutes, with its threshold. */
import { attribute, h } from "./dom.js";
import { dashed, drawn, scoreLine } from "./draw.js";
import { LINE_S, lineOf, loadLine, on, store } from "./store.js";
import { now, scored } from "./words.js";

/** Lines are asked for a few at a time, and only when they are seen. @type {(() => Promise<void>)[]} */
const waiting = [];
let underWay = 0;

function next() {
  while (underWay < 2 && waiting.length) {
    underWay++;
    /** @type {() => Promise<void>} */ (waiting.shift())().finally(() => {
      underWay--;
      next();
    });
  }
}

/**
 * @param {string} name @param {AbortSignal} signal
 * @returns {HTMLCanvasElement}
 */
export function spark(name, signal) {
  const canvas = h("canvas", { class: "spark", role: "img", "data-moves": "" });
  const paint = drawn(canvas, (sheet) => {
    const camera = store.cameras.get(name);
    const { width, height } = sheet;
    const end = now() / 1000;
    const y = (/** @type {number} */ value) => height - 1.5 - value * (height - 3);
    const x = (/** @type {number} */ time) => width - 3 - ((end - time) / LINE_S) * (width - 3);
    const threshold = camera?.alarm.threshold ?? 1;
    dashed(sheet, y(threshold), sheet.ink.muted);
    const line = lineOf(name);
    scoreLine(sheet, line, { x, y, threshold, gap: gapOf(line) });
    const last = line[line.length - 1];
    if (last && last[1] !== null && end - last[0] < 30) {
      sheet.context.fillStyle = last[1] > threshold ? sheet.ink.alarm : sheet.ink.score;
      sheet.context.beginPath();
      sheet.context.arc(x(last[0]), y(last[1]), 2.5, 0, 7);
      sheet.context.fill();
    }
  }, signal);
  let described = 0;
  const describe = () => {
    // In words at most every ten seconds: what changes all the time cannot be listened to.
    if (Date.now() - described < 10000) return;
    described = Date.now();
    attribute(canvas, "aria-label", lineWords(name));
  };
  on("score", ({ camera }) => {
    if (camera !== name) return;
    paint();
    describe();
  }, signal);
  on("camera", (camera) => camera.name === name && paint(), signal);
  const ask = () => {
    waiting.push(async () => {
      if (!signal.aborted) await loadLine(name);
    });
    next();
  };
  const watch = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      watch.disconnect();
      ask();
    }
  }, { rootMargin: "200px" });
  watch.observe(canvas);
  on("fresh", ask, signal);
  signal.addEventListener("abort", () => watch.disconnect());
  describe();
  return canvas;
}

/** Three times the usual step, at least ten seconds. @param {[number, number|null][]} line */
function gapOf(line) {
  const step = line.length > 2 ? (line[line.length - 1][0] - line[0][0]) / (line.length - 1) : 0;
  return Math.max(10, 3 * step);
}

/** @param {string} name */
function lineWords(name) {
  const values = lineOf(name).map((one) => one[1]).filter((value) => value !== null);
  const threshold = store.cameras.get(name)?.alarm.threshold ?? 1;
  if (!values.length) return `Score of ${name}, last ten minutes: none yet. Threshold ${scored(threshold)}.`;
  const high = Math.max(...values);
  return `Score of ${name}, last ten minutes: now ${scored(values[values.length - 1])}, highest ${scored(high)}, threshold ${scored(threshold)}.`;
}
