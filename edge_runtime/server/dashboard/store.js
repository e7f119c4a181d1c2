// @ts-check
/** What the page knows now: the run, its cameras, their newest scores and the events of the last day. */
import { get, path, withQuery } from "./api.js";
import { now, setClock, READ_ONLY } from "./words.js";

/** @typedef {import("./types.js").Camera} Camera */
/** @typedef {import("./types.js").Event} Event */

/** How far back a tile's line goes, seconds. */
export const LINE_S = 600;
const DAY_MS = 86400000;
const PAGE = 200;
const MOST_PAGES = 25;

/** @type {{run: import("./types.js").Run|null, session: import("./types.js").Session|null, cameras: Map<string, Camera>,
 *   recent: Map<string, Event>, loaded: boolean}} */
export const store = { run: null, session: null, cameras: new Map(), recent: new Map(), loaded: false };

/** @type {Map<string, Set<(value: any) => void>>} */
const listeners = new Map();

/**
 * Hear of changes: `camera` (a Camera), `cameras` (the list), `score`, `event`, `recent`, `link`, `fresh` (after a lost
 * connection), `session`.
 *
 * @param {string} topic @param {(value: any) => void} act @param {AbortSignal} [signal]
 */
export function on(topic, act, signal) {
  const all = listeners.get(topic) ?? new Set();
  listeners.set(topic, all.add(act));
  signal?.addEventListener("abort", () => all.delete(act));
}

/** @param {string} topic @param {any} [value] */
export function emit(topic, value) {
  for (const act of listeners.get(topic) ?? []) act(value);
}

/** Why nothing can be changed here; null where it can. @returns {string|null} */
export const cannotAct = () => (store.session?.role === "act" ? null : READ_ONLY);

/** Ask who we are. */
export async function loadSession() {
  store.session = await get("api/session");
  emit("session", store.session);
  return store.session;
}

/** Ask for the run and all cameras, which is what the first picture of the page needs. */
export async function loadWall() {
  const [run, told] = await Promise.all([get("api/run"), get("api/cameras")]);
  setClock(run.time);
  store.run = run;
  store.cameras = new Map(told.cameras.map((/** @type {Camera} */ camera) => [camera.name, camera]));
  store.loaded = true;
  emit("cameras");
}

/** Ask for the events of the last day: alarms of today, and the hours of the strips. */
export async function loadRecent() {
  /** @type {Map<string, Event>} */
  const found = new Map();
  const before = new Map(store.recent);
  const from = new Date(now() - DAY_MS).toISOString();
  /** @type {string|null} */
  let after = null;
  for (let page = 0; page < MOST_PAGES; page++) {
    const told = /** @type {any} */ (await get(withQuery(path("events"), { from, limit: PAGE, after })));
    for (const event of told.events) found.set(event.id, event);
    after = told.next;
    if (!after) break;
  }
  // What was told meanwhile is newer; what the stream says nothing of is left as the list has it.
  for (const [id, event] of store.recent) {
    if (before.get(id) === event) continue;
    const said = Object.fromEntries(Object.entries(event).filter(([, value]) => value !== undefined));
    found.set(id, { ...(found.get(id) ?? event), ...said });
  }
  store.recent = found;
  today = null;
  emit("recent");
}

/** @param {Camera} camera */
export function takeCamera(camera) {
  const known = store.cameras.has(camera.name);
  store.cameras.set(camera.name, camera);
  emit(known ? "camera" : "cameras", camera);
}

/** @param {string} name */
export function dropCamera(name) {
  store.cameras.delete(name);
  lines.delete(name);
  emit("cameras");
}

/** @param {import("./types.js").LiveScore} score */
export function takeScore(score) {
  const camera = store.cameras.get(score.camera);
  if (!camera) return;
  camera.score = { p: null, .../** @type {any} */ (score) };
  const line = lines.get(score.camera);
  if (line) {
    line.push([Date.parse(score.time) / 1000, score.smoothed]);
    while (line.length && line[0][0] < now() / 1000 - LINE_S - 60) line.shift();
  }
  emit("score", score);
}

/**
 * @param {Event} told
 * @param {boolean} [all] Whether everything is known of it; the stream says nothing of files, marks and descriptions.
 */
export function takeEvent(told, all = true) {
  const before = store.recent.get(told.id);
  let event = told;
  if (!all) {
    const { snapshot, clip, seen, mark, description } = before ?? told;
    event = { ...told, snapshot, clip, seen, mark, description };
    if (!before || before.state !== told.state) askAgain(told.id);
  }
  store.recent.set(event.id, event);
  today = null;
  const camera = store.cameras.get(event.camera);
  if (camera) {
    const open = event.state === "open" ? event.id : camera.open_event === event.id ? null : camera.open_event;
    if (open !== camera.open_event) {
      camera.open_event = open;
      emit("camera", camera);
    }
  }
  emit("event", { event, isNew: !before });
}

/** Snapshot and clip are there a little after the stream tells of their event. @param {string} id */
function askAgain(id) {
  for (const wait of [2500, 15000]) {
    setTimeout(async () => {
      try {
        takeEvent(await get(path("events", id)));
      } catch {
        // Forgotten meanwhile, or no connection: the next list tells.
      }
    }, wait);
  }
}

/** Newest smoothed scores by camera, `[seconds since 1970, score or null]`. @type {Map<string, [number, number|null][]>} */
const lines = new Map();

/** A camera's line, empty until it has been asked for. @param {string} name */
export const lineOf = (name) => lines.get(name) ?? [];

/** Ask for a camera's last minutes, once. @param {string} name */
export async function loadLine(name) {
  if (lines.has(name)) return;
  /** @type {[number, number|null][]} */
  const line = [];
  lines.set(name, line);
  const to = now();
  const query = { from: new Date(to - LINE_S * 1000).toISOString(), to: new Date(to).toISOString(), points: 200 };
  try {
    const told = await get(withQuery(path("cameras", name, "scores"), query));
    const first = line[0]?.[0] ?? Infinity;
    line.unshift(...told.scores.filter((/** @type {[number, number|null]} */ one) => one[0] < first));
  } catch {
    // Without the past the line begins now.
  }
  emit("score", { camera: name });
}

/** Forget all lines, so that they are asked for again: some of them have a hole. */
export const dropLines = () => lines.clear();

setInterval(() => {
  for (const [id, { start, state }] of store.recent) {
    if (state === "ended" && Date.parse(start) < now() - DAY_MS) store.recent.delete(id);
  }
}, 600000);

/** @type {{day: string, counts: Map<string, number>}|null} */
let today = null;

/** Alarms since midnight here, by camera. @returns {Map<string, number>} */
export function alarmsToday() {
  const day = new Date(now()).toDateString();
  if (today?.day !== day) {
    const midnight = new Date(now()).setHours(0, 0, 0, 0);
    today = { day, counts: new Map() };
    for (const { camera, start } of store.recent.values()) {
      if (Date.parse(start) >= midnight) today.counts.set(camera, (today.counts.get(camera) ?? 0) + 1);
    }
  }
  return today.counts;
}
