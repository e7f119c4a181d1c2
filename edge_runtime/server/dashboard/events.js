// @ts-check
/** All events of all cameras, newest first, with what can be filtered by and the last day at a glance. */
import { path } from "./api.js";
import { button, h, icon, link, put, route, say } from "./dom.js";
import { feed, fits, loadMore, look, merge, newest, none, renew } from "./feed.js";
import { keep, setting, shortcut } from "./keys.js";
import { longList } from "./list.js";
import { empty, failure } from "./shell.js";
import { on, store } from "./store.js";
import { strips } from "./strips.js";
import { clock, counted, day, duration, isoDay, markWords, now, scored, whole } from "./words.js";

/** @typedef {import("./types.js").Event} Event */
/** @typedef {{heading: string}|{event: Event}} Item */

/** Snapshots are asked for once scrolling rests, or a flick through a thousand rows would ask for a thousand. */
const REST_MS = 120;

/** @param {import("./types.js").View} view */
export async function events({ root, query, signal }) {
  const wanted = { ...none(), ...Object.fromEntries(query) };
  if (JSON.stringify(wanted) !== JSON.stringify({ ...none(), ...feed.wanted })) look(wanted);
  const narrow = matchMedia("(max-width: 640px)");
  // Asked once: a query of the window for every row of thousands is felt.
  let high = narrow.matches ? 84 : 64;
  narrow.addEventListener("change", () => {
    high = narrow.matches ? 84 : 64;
    list.set(items);
  }, { signal });
  const problem = h("div", {});
  const pill = h("div", { class: "pill-place" });
  const list = longList(signal, {
    label: "Events, newest first",
    row: (/** @type {Item} */ item) => ("heading" in item ? h("h2", { class: "day" }, item.heading) : eventRow(item.event)),
    stops: (/** @type {Item} */ item) => "event" in item,
    height: (/** @type {Item} */ item) => ("heading" in item ? 44 : high),
    hasMore: () => feed.next !== null,
    more: async () => {
      try {
        await loadMore(signal);
        put(problem);
      } catch (error) {
        if (signal.aborted) return;
        put(problem, failure(error, () => list.grow()));
        throw error;
      }
      if (!signal.aborted) refresh(true);
    },
  });
  /** @type {Item[]} */
  let items = [];
  const refresh = (/** @type {boolean} */ kept) => {
    items = kept ? withDays(feed.events, items) : withDays(feed.events);
    list.set(items, kept);
    if (feed.events.length) put(problem);
    else if (feed.next === null) put(problem, nothing(() => change(none())));
  };
  const change = (/** @type {import("./feed.js").Wanted} */ next) => {
    look(next);
    const words = new URLSearchParams(Object.entries(next).filter(([, value]) => value));
    history.replaceState(null, "", `#/events${words.size ? `?${words}` : ""}`);
    put(problem);
    put(pill);
    waiting = [];
    items = [];
    bar.show();
    list.grow().catch(() => {});
    list.set([]);
  };
  const bar = filters(change);
  const day24 = strips(signal, (camera, when, hour) => {
    change({ ...none(), camera, day: when, hour });
    list.element.scrollIntoView({ block: "start" });
  });
  const details = h("details", { class: "card fold", open: setting("strips", narrow.matches ? "shut" : "open") === "open" }, h("summary", {}, h("h2", {}, "The last 24 hours")), day24.element);
  details.addEventListener("toggle", () => keep("strips", details.open ? "open" : "shut"));
  put(root, h("h1", {}, "Events"), details, bar.element, pill, problem, list.element);
  day24.show();
  on("recent", day24.show, signal);

  /** @type {Event[]} New ones that are not in the list yet: what is read stays where it is. */
  let waiting = [];
  const takeWaiting = () => {
    feed.events.unshift(...waiting);
    waiting = [];
    put(pill);
  };
  signal.addEventListener("abort", takeWaiting);
  const take = (/** @type {Event} */ event) => {
    const known = waiting.findIndex((one) => one.id === event.id);
    if (known >= 0) waiting[known] = event;
    else if (renew(event)) {
      const at = items.findIndex((item) => "event" in item && item.event.id === event.id);
      if (at < 0) return;
      items[at] = { event };
      list.redo(at);
    } else if (feed.next !== undefined && fits(event)) {
      waiting.unshift(event);
      if (scrollY < 200 && !list.element.contains(document.activeElement)) {
        takeWaiting();
        refresh(false);
        return;
      }
      put(pill, button(`${counted(waiting.length, "new alarm")}: show`, () => {
        takeWaiting();
        refresh(false);
        scrollTo(0, 0);
      }, { kind: "primary" }));
    }
  };
  on("event", ({ event }) => {
    day24.show();
    take(event);
  }, signal);
  /** What came, and what ended, while something else was looked at. */
  const catchUp = async () => {
    const found = await newest(signal).catch(() => []);
    if (signal.aborted || !found.length) return;
    const came = merge(found);
    if (came < 0) return change({ ...feed.wanted });
    waiting = waiting.filter((one) => !feed.events.some((event) => event.id === one.id));
    if (!waiting.length) put(pill);
    const { scrollY: before } = window;
    const focused = document.activeElement?.closest(".event-row")?.getAttribute("href");
    refresh(false);
    // What is read stays where it is.
    if (before >= 200) scrollTo(0, before + came * high);
    if (focused) [...list.element.querySelectorAll("a")].find((one) => one.hash === focused)?.focus({ preventScroll: true });
    return undefined;
  };
  on("fresh", async () => {
    const found = await newest(signal).catch(() => []);
    // A whole page that is new: there is a hole between it and the list.
    if (found.length && found.every((event) => !feed.events.some((one) => one.id === event.id))) change({ ...feed.wanted });
    else for (const event of found.reverse()) take(event);
  }, signal);
  shortcut("j", "Next event", () => list.go(1), signal);
  shortcut("k", "Event before", () => list.go(-1), signal);
  shortcut("/", "Filter by camera", () => bar.focus(), signal);
  addEventListener("scroll", rest, { signal, passive: true });
  signal.addEventListener("abort", () => (feed.scroll = leaving));
  let leaving = feed.scroll;
  addEventListener("scroll", () => (leaving = scrollY), { signal, passive: true });
  if (feed.next === undefined) list.grow().catch(() => {});
  else {
    const { scroll } = feed;
    refresh(false);
    scrollTo(0, scroll);
    list.set(items, true);
    catchUp();
    [...list.element.querySelectorAll("a")].find((one) => one.hash === route("event", feed.at))?.focus({ preventScroll: true });
  }
}

/** A heading before the first event of each day. @param {Event[]} all @param {Item[]} [items] What there is of it. */
function withDays(all, items = []) {
  const done = items.filter((item) => "event" in item).length;
  let last = done ? isoDay(new Date(all[done - 1].start)) : "";
  for (const event of all.slice(done)) {
    const date = isoDay(new Date(event.start));
    if (date !== last) items.push({ heading: day(event.start) });
    last = date;
    items.push({ event });
  }
  return items;
}

/** @type {Set<() => void>} */
const resting = new Set();
let restTimer = 0;
let moved = 0;

function rest() {
  moved = Date.now();
  clearTimeout(restTimer);
  restTimer = setTimeout(() => {
    for (const show of resting) show();
    resting.clear();
  }, REST_MS);
}

/** A snapshot, asked for when it is needed. @param {Event} event */
function thumb(event) {
  const box = h("span", { class: "thumb" }, icon("film"));
  if (!event.snapshot) return box;
  const show = () => {
    if (box.isConnected || Date.now() - moved > REST_MS) put(box, h("img", { src: path("events", event.id, "snapshot"), alt: "", decoding: "async" }));
  };
  if (Date.now() - moved > REST_MS) show();
  else resting.add(show);
  return box;
}

/** @param {Event} event */
function eventRow(event) {
  const open = event.state === "open";
  return link(
    route("event", event.id),
    { class: `event-row${open ? " open" : ""}`, title: whole(event.start), on: { click: () => (feed.at = event.id) } },
    thumb(event),
    h("span", { class: "event-when" }, clock(event.start)),
    h("span", { class: "event-camera" }, event.camera),
    h("span", { class: "peak", css: { "--peak": String(event.peak) } }, h("span", { class: "hidden" }, "peak "), h("b", {}, scored(event.peak)), h("i", { "aria-hidden": "true" })),
    h("span", { class: "event-long" }, open ? "now" : duration(event.seconds)),
    h("span", { class: "event-said" },
      event.mark && h("span", { class: `mark ${event.mark}` }, markWords(event.mark)), event.clip && h("span", { class: "muted clip", title: "With a clip" }, icon("film"), h("span", { class: "hidden" }, "clip")),
      h("span", { class: "event-text" }, event.description ?? "")),
  );
}

/** @param {() => void} reset */
function nothing(reset) {
  const filtered = Object.values(feed.wanted).some(Boolean);
  return filtered
    ? empty("search", "No event fits", h("p", {}, "Widen the filter, or look at all."), button("Show all", reset))
    : empty("events", "No alarm yet", h("p", {}, "Events appear here as soon as a camera's score is above its threshold. To see whether the threshold is right, open a camera and try another one."), link("#/", { class: "button" }, "To the wall"));
}

/** @param {(next: import("./feed.js").Wanted) => void} change */
function filters(change) {
  const choice = (/** @type {string} */ id, /** @type {string} */ label, /** @type {[string, string][]} */ options) => {
    const made = h("select", { id, "aria-label": label }, options.map(([value, word]) => h("option", { value }, word)));
    made.addEventListener("change", () => change({ ...feed.wanted, [id]: made.value, ...(id === "day" ? { hour: "" } : {}) }));
    return made;
  };
  const camera = choice("camera", "Camera", [["", "All cameras"], ...[...store.cameras.keys()].sort((a, b) => a.localeCompare(b)).map((name) => /** @type {[string, string]} */ ([name, name]))]);
  const date = h("input", { type: "date", id: "day", "aria-label": "Day", max: isoDay(now()) });
  date.addEventListener("change", () => change({ ...feed.wanted, day: date.value, hour: "" }));
  const peak = choice("peak", "Peak", [["", "Any peak"], ["0.7", "Peak 0.7 and up"], ["0.8", "0.8 and up"], ["0.9", "0.9 and up"], ["0.95", "0.95 and up"]]);
  const mark = choice("mark", "Mark", [["", "Marked or not"], ["none", "Not marked"], ["false_alarm", "False alarm"], ["missed", "Was real"]]);
  const hour = h("span", { class: "chip" });
  const all = button("Show all", () => change(none()), { kind: "quiet" });
  const show = () => {
    const { wanted } = feed;
    [camera.value, date.value, peak.value, mark.value] = [wanted.camera, wanted.day, wanted.peak, wanted.mark];
    const [first, count] = wanted.hour.split("-").map(Number);
    say(hour, wanted.hour ? `${String(first).padStart(2, "0")}:00 to ${String((first + count) % 24).padStart(2, "0")}:00` : "");
    hour.hidden = !wanted.hour;
    all.hidden = !Object.values(wanted).some(Boolean);
  };
  show();
  return { element: h("div", { class: "filters sticky", role: "search", "aria-label": "Events" }, camera, date, peak, mark, hour, all), show, focus: () => camera.focus() };
}
