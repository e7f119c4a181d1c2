// @ts-check
/** One drawing loop for all canvases: only what is seen and has changed is drawn, at most once a frame. */

/** @typedef {{context: CanvasRenderingContext2D, width: number, height: number, ink: Object<string, string>}} Sheet */
/** @typedef {{canvas: HTMLCanvasElement, paint: (sheet: Sheet) => void, seen: boolean, dirty: boolean}} Drawing */

const INKS = ["text", "muted", "line", "score", "score-soft", "alarm", "alarm-soft", "accent", "accent-soft"];

/** @type {Map<Element, Drawing>} */
const drawings = new Map();
/** @type {Object<string, string>|null} */
let ink = null;
let asked = false;

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const own = drawings.get(entry.target);
    if (own) own.seen = entry.isIntersecting;
  }
  ask();
});
const sized = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const own = drawings.get(entry.target);
    if (own) own.dirty = true;
  }
  ask();
});

/** Colours as the style sheet has them now: a canvas knows no variables. */
function inks() {
  if (ink) return ink;
  const probe = document.createElement("i");
  probe.className = "hidden";
  document.body.append(probe);
  ink = {};
  for (const name of INKS) {
    probe.style.color = `var(--${name})`;
    ink[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return ink;
}

function recolour() {
  ink = null;
  for (const own of drawings.values()) own.dirty = true;
  ask();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
addEventListener("hh-theme", recolour);

function ask() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const own of drawings.values()) if (own.seen && own.dirty) drawOne(own);
  });
}

/** @param {Drawing} own */
function drawOne(own) {
  const { canvas } = own;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return;
  own.dirty = false;
  const scale = devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  own.paint({ context, width, height, ink: inks() });
}

/**
 * Keep a canvas drawn.
 *
 * @param {HTMLCanvasElement} canvas @param {(sheet: Sheet) => void} paint @param {AbortSignal} signal
 * @returns {() => void} To call when what is painted has changed.
 */
export function drawn(canvas, paint, signal) {
  const own = { canvas, paint, seen: false, dirty: true };
  drawings.set(canvas, own);
  seen.observe(canvas);
  sized.observe(canvas);
  signal.addEventListener("abort", () => {
    drawings.delete(canvas);
    seen.unobserve(canvas);
    sized.unobserve(canvas);
  });
  return () => {
    own.dirty = true;
    if (own.seen) ask();
  };
}

// Time goes on where no score comes.
setInterval(() => {
  if (document.hidden) return;
  for (const own of drawings.values()) own.dirty = own.dirty || own.canvas.dataset.moves !== undefined;
  ask();
}, 5000);

/**
 * A line of scores between 0 and 1, filled beneath, in another colour above the threshold, with holes where nothing was
 * scored.
 *
 * @param {Sheet} sheet
 * @param {[number, number|null][]} scores By time.
 * @param {{x: (t: number) => number, y: (v: number) => number, threshold: number, gap: number, width?: number}} place
 *   `gap`: seconds without a score that are a hole.
 */
export function scoreLine({ context, width, height, ink: colours }, scores, place) {
  const { x, y, threshold, gap } = place;
  const path = new Path2D();
  const area = new Path2D();
  let begun = NaN;
  let last = NaN;
  let lastX = 0;
  const close = () => {
    if (Number.isNaN(begun)) return;
    area.lineTo(lastX, height);
    area.lineTo(begun, height);
    area.closePath();
    begun = NaN;
  };
  for (const [time, value] of scores) {
    if (value === null) {
      close();
      continue;
    }
    const [px, py] = [x(time), y(value)];
    if (Number.isNaN(begun) || time - last > gap) {
      close();
      path.moveTo(px, py);
      // A single score between two holes is seen as a dot.
      path.lineTo(px + 0.01, py);
      area.moveTo(px, py);
      begun = px;
    } else {
      path.lineTo(px, py);
      area.lineTo(px, py);
    }
    [last, lastX] = [time, px];
  }
  close();
  const edge = y(threshold);
  const paint = (/** @type {number} */ top, /** @type {number} */ high, /** @type {string} */ line, /** @type {string} */ fill) => {
    context.save();
    context.beginPath();
    context.rect(0, top, width, high);
    context.clip();
    context.fillStyle = fill;
    context.fill(area);
    context.strokeStyle = line;
    context.lineWidth = place.width ?? 1.5;
    context.lineJoin = context.lineCap = "round";
    context.stroke(path);
    context.restore();
  };
  paint(edge, height - edge, colours.score, colours["score-soft"]);
  paint(0, edge, colours.alarm, colours["alarm-soft"]);
}

/** A threshold, dashed. @param {Sheet} sheet @param {number} y @param {string} colour @param {number[]} [dash] */
export function dashed({ context, width }, y, colour, dash = [3, 4]) {
  context.save();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(0, Math.round(y) + 0.5);
  context.lineTo(width, Math.round(y) + 0.5);
  context.stroke();
  context.restore();
}
