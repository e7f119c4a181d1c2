// @ts-check
/** The wall: what is down, what alarms now, and all cameras. */
import { change } from "./api.js";
import { attribute, button, h, icon, link, put, roving, route, say } from "./dom.js";
import { keep, setting, sheet, shortcut } from "./keys.js";
import { linkState } from "./live.js";
import { empty, failure, told } from "./shell.js";
import { alarmsToday, cannotAct, on, store, takeCamera } from "./store.js";
import { badges, stateIcon, tile, togglePause } from "./tile.js";
import { clock, condition, counted, isDown, scored, sentence, since, stateWords } from "./words.js";

/** @typedef {import("./types.js").Camera} Camera */

/** @type {[string, string, (camera: Camera) => boolean][]} */
const FILTERS = [
  ["all", "All", () => true],
  ["alarm", "Alarm now", (camera) => Boolean(camera.open_event)],
  ["down", "Down", isDown],
  ["look", "Picture bad", (camera) => camera.quality.some((one) => one !== "ok")],
  ["paused", "Paused", (camera) => camera.paused],
];
/** What was filtered by, kept while the page is open. */
const chosen = { filter: "all", text: "" };

/** @param {import("./types.js").View} view */
export function wall({ root, signal }) {
  const summary = h("section", { class: "summary", "aria-labelledby": "now" });
  const grid = h("div", { class: "grid", role: "group", "aria-label": "Cameras", "data-size": setting("size", "small") });
  const nothing = h("div", {});
  /** @type {Map<string, {element: HTMLElement, update: () => void, own: AbortController}>} */
  const tiles = new Map();
  const bar = filters(signal, () => arrange());
  put(root, h("h1", { class: "hidden" }, "Wall"), summary, bar.element, grid, nothing);
  const settle = roving(grid, "[data-tile]", signal);
  // Of one tile's buttons, only that of the tile one is at can be tabbed to.
  grid.addEventListener("focusin", (event) => {
    const here = /** @type {Element} */ (event.target).closest(".tile");
    for (const stop of grid.querySelectorAll("[data-stop]")) attribute(stop, "tabindex", here?.contains(stop) ? "0" : "-1");
  }, { signal });

  const arrange = () => {
    const test = FILTERS.find(([key]) => key === chosen.filter)?.[2] ?? (() => true);
    const text = chosen.text.trim().toLocaleLowerCase();
    let shown = 0;
    for (const [name, { element }] of tiles) {
      const camera = store.cameras.get(name);
      const fits = Boolean(camera && test(camera) && name.toLocaleLowerCase().includes(text));
      if (element.hidden === fits) element.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    bar.count(shown);
    if (shown) put(nothing);
    else if (!store.cameras.size) put(nothing, noCameras());
    else put(nothing, empty("search", "No camera fits", h("p", {}, chosen.filter === "down" ? "None is down." : "Change the name or the filter."), button("Show all", () => bar.reset())));
  };
  const build = () => {
    for (const [name, { element, own }] of tiles) {
      if (store.cameras.has(name)) continue;
      own.abort();
      element.remove();
      tiles.delete(name);
    }
    for (const name of store.cameras.keys()) {
      if (tiles.has(name)) continue;
      const own = new AbortController();
      const made = tile(name, AbortSignal.any([signal, own.signal]));
      tiles.set(name, { ...made, own });
      grid.append(made.element);
      for (const stop of made.element.querySelectorAll("[data-stop]")) attribute(stop, "tabindex", "-1");
    }
    settle();
    arrange();
    sum();
  };
  const sum = () => summarise(summary);
  on("cameras", () => {
    build();
    for (const one of tiles.values()) one.update();
  }, signal);
  on("camera", (camera) => {
    tiles.get(camera.name)?.update();
    arrange();
    sum();
  }, signal);
  on("score", ({ camera }) => tiles.get(camera)?.update(), signal);
  const counts = () => {
    for (const one of tiles.values()) one.update();
    sum();
  };
  on("recent", counts, signal);
  on("event", counts, signal);
  on("link", sum, signal);
  const timer = setInterval(sum, 10000);
  signal.addEventListener("abort", () => clearInterval(timer));
  shortcut("/", "Find a camera", () => bar.focus(), signal);
  shortcut("p", "Pause the chosen camera, or watch it again", () => {
    const name = /** @type {HTMLElement|null} */ (document.activeElement?.closest(".tile"))?.dataset.name;
    const camera = name !== undefined && store.cameras.get(name);
    if (camera && !cannotAct()) togglePause(camera);
  }, signal);
  build();
}

let summed = "";
/** So many rows are seen at once; the rest is one click away. */
const FEW = 6;
let moreOpen = false;

/** @param {HTMLElement[]} rows */
function more(rows) {
  const made = h("details", { class: "fold", open: moreOpen }, h("summary", {}, `${rows.length} more`), h("ul", { class: "matters" }, rows));
  made.addEventListener("toggle", () => (moreOpen = made.open));
  return made;
}

/** What to look at first, in words. @param {HTMLElement} box */
function summarise(box) {
  const all = [...store.cameras.values()];
  const down = all.filter(isDown);
  const alarms = all.filter((camera) => camera.open_event);
  const bad = all.filter((camera) => !isDown(camera) && !camera.paused && camera.quality.some((one) => one !== "ok"));
  const paused = all.filter((camera) => camera.paused).length;
  const count = [...alarmsToday().values()].reduce((sum, one) => sum + one, 0);
  const watched = all.filter((camera) => camera.state === "online" && !camera.paused).length;
  const lost = linkState.state === "lost";
  const line = lost && all.length ? `No connection; as it was at ${clock(linkState.since)}` : all.length ? [
    watched === all.length ? `All ${counted(all.length, "camera is", "cameras are")} watched`.replace("All 1 ", "The one ") : `${watched} of ${counted(all.length, "camera is", "cameras are")} watched`,
    alarms.length ? counted(alarms.length, "alarm now", "alarms now") : "no alarm now",
    counted(count, "alarm today", "alarms today"),
    paused ? `${paused} paused` : "",
  ].filter(Boolean).join(" · ") : "No camera yet";
  const rows = [...alarms.map(alarmRow), ...down.map(downRow), ...bad.map(badRow)];
  const key = JSON.stringify([line, rows.map((row) => row.textContent)]);
  // Nothing is touched under a reader's or a finger's place unless it says something else now.
  if (key === summed && box.childElementCount) return;
  summed = key;
  const within = box.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
  put(
    box,
    h("h2", { id: "now", class: `now ${lost || down.length ? "bad" : alarms.length ? "hot" : "good"}` }, icon(lost || down.length ? "offline" : alarms.length ? "alarm" : "online"), h("span", {}, line)),
    rows.length > 0 && h("ul", { class: "matters" }, rows.slice(0, FEW)),
    rows.length > FEW && more(rows.slice(FEW)),
  );
  if (within) /** @type {HTMLElement|undefined} */ ([...box.querySelectorAll("a")].find((one) => one.getAttribute("href") === within))?.focus();
}

/** @param {Camera} camera */
function alarmRow(camera) {
  const event = store.recent.get(camera.open_event ?? "");
  return h("li", { class: "matter hot" }, icon("alarm"),
    link(route("event", camera.open_event ?? ""), { class: "matter-name" }, camera.name),
    h("p", {}, h("strong", {}, "Alarm now"), event ? `, ${since(event.start)}. Peak ${scored(event.peak)}.` : "."));
}

/** @param {Camera} camera */
function downRow(camera) {
  return h("li", { class: "matter bad" }, icon(stateIcon(condition(camera))),
    link(route("camera", camera.name), { class: "matter-name" }, camera.name),
    h("p", {}, h("strong", {}, camera.detail ? stateWords({ ...camera, reason: null }) : stateWords(camera)), camera.since ? ` ${since(camera.since)}. ` : ". ", sentence(camera.detail)));
}

/** @param {Camera} camera */
function badRow(camera) {
  return h("li", { class: "matter look" }, icon("warning"),
    link(route("camera", camera.name), { class: "matter-name" }, camera.name),
    h("p", {}, badges(camera).map((badge) => [h("strong", {}, badge.textContent), ". ", badge.getAttribute("title"), " "])));
}

/** @param {AbortSignal} signal @param {() => void} changed */
function filters(signal, changed) {
  const text = h("input", { type: "search", id: "find", placeholder: "Find a camera", "aria-label": "Find a camera by name", value: chosen.text, autocomplete: "off" });
  text.addEventListener("input", () => {
    chosen.text = text.value;
    changed();
  });
  const choices = FILTERS.map(([key, word]) => {
    const made = h("button", { type: "button", class: "choice", "aria-pressed": String(key === chosen.filter) }, word);
    made.addEventListener("click", () => {
      chosen.filter = key;
      FILTERS.forEach(([other], at) => attribute(choices[at], "aria-pressed", String(other === key)));
      changed();
    });
    return made;
  });
  const size = button("", () => {
    const next = setting("size", "small") === "small" ? "large" : "small";
    keep("size", next);
    document.querySelector(".grid")?.setAttribute("data-size", next);
    sized();
  }, { kind: "quiet", label: "Size" });
  const sized = () => {
    const small = setting("size", "small") === "small";
    put(size, icon(small ? "large" : "small"));
    for (const name of ["aria-label", "title"]) attribute(size, name, small ? "Larger pictures" : "Smaller pictures");
  };
  sized();
  const add = button("Add", addCamera, { icon: "plus", kind: "quiet", label: "Add a camera", reason: cannotAct() });
  const count = h("span", { class: "muted small count", role: "status" });
  return {
    element: h("div", { class: "filters", role: "search", "aria-label": "Cameras" }, h("span", { class: "field" }, icon("search"), text), h("div", { class: "choices", role: "group", "aria-label": "Show" }, choices), count, h("span", { class: "push" }), add, size),
    count: (/** @type {number} */ shown) => say(count, shown === store.cameras.size ? "" : `${shown} of ${store.cameras.size}`),
    focus: () => text.focus(),
    reset: () => {
      text.value = chosen.text = "";
      choices[0].click();
    },
  };
}

function noCameras() {
  return empty("wall", "No camera yet",
    h("p", {}, "Add one here, or list cameras in cameras.yaml and start with ", h("code", {}, "hh-edge run --config cameras.yaml"), "."),
    button("Add a camera", addCamera, { icon: "plus", kind: "primary", reason: cannotAct() }));
}

const NAME_HELP = "Letters A to Z, digits, dots, dashes and underscores.";

/** Ask for a name and an address. */
function addCamera() {
  const name = h("input", { id: "new-name", required: true, maxlength: 64, pattern: "[A-Za-z0-9_.\\-]+", title: NAME_HELP, "aria-describedby": "name-help", autocomplete: "off" });
  const source = h("input", { id: "new-source", required: true, autocomplete: "off", spellcheck: "false", placeholder: "rtsp://user:password@192.168.1.20/stream" });
  const error = h("div", {});
  const send = button("Add", () => {}, { kind: "primary", type: "submit" });
  const form = h("form", { class: "stack" },
    h("label", { for: "new-name" }, "Name"), name, h("p", { class: "muted small", id: "name-help" }, NAME_HELP),
    h("label", { for: "new-source" }, "Address"), source,
    h("p", { class: "muted small" }, "It is watched from now on, also after a restart."),
    error, h("div", { class: "buttons" }, send));
  const made = sheet("Add a camera", form);
  form.addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const camera = await change("POST", "api/cameras", { name: name.value.trim(), source: source.value.trim() });
      takeCamera(camera);
      told(`${camera.name} is added.`);
      made.close();
    } catch (problem) {
      put(error, failure(problem));
    }
  });
}
