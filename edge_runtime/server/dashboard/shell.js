// @ts-check
/** The frame around every view: tabs, connection, what is said aloud, errors in their place. */
import { change } from "./api.js";
import { button, h, icon, link, put, route, say } from "./dom.js";
import { help } from "./keys.js";
import { linkState, tryNow } from "./live.js";
import { loadSession, on, store } from "./store.js";
import { about, clock, counted, isDown, now } from "./words.js";

const element = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const TABS = [["", "Wall", "wall"], ["events", "Events", "events"], ["teach", "Teach", "teach"]];
/** At most one announcement in this time: a screen reader is for more than us. */
const QUIET_MS = 6000;

/** @param {string} kind The view that is shown. */
export function showTabs(kind) {
  const of = { event: "events", camera: "" }[kind] ?? kind;
  put(
    element("tabs"),
    store.session?.role && TABS.map(([name, text, drawing]) => link(`#/${name}`, { "aria-current": of === name ? "page" : null }, icon(drawing), h("span", {}, text))),
  );
}

let statusKey = "";

function showStatus() {
  const { state, since } = linkState;
  const text = { live: "Live", connecting: "Connecting", lost: "No connection" }[state];
  const session = store.session;
  const all = session?.role ? [...store.cameras.values()] : [];
  const open = all.filter((camera) => camera.open_event);
  const down = all.filter(isDown);
  const key = `${state} ${since} ${session?.role} ${session?.needs_token} ${open.map((camera) => camera.open_event)} ${down.length}`;
  if (key === statusKey) return;
  statusKey = key;
  put(
    element("status"),
    open.length > 0 && link(open.length === 1 ? route("event", open[0].open_event ?? "") : "#/", { class: "chip alarms" }, icon("alarm"), `${open.length}`, h("span", {}, open.length === 1 ? " alarm now" : " alarms now")),
    down.length > 0 && link("#/", { class: "chip alarms" }, icon("offline"), `${down.length}`, h("span", {}, " down")),
    session?.role && h("span", { class: `link ${state}`, title: `${text} since ${clock(since)}` }, h("i", {}), h("span", {}, text)),
    session?.role === "read" && h("span", { class: "chip", title: "This token may only look" }, icon("key"), "May look"),
    session?.needs_token && session.role && button("", signOut, { icon: "out", kind: "quiet", label: "Sign out" }),
    button("", help, { icon: "help", kind: "quiet", label: "Keys and settings" }),
  );
}

async function signOut() {
  try {
    await change("DELETE", "api/session");
  } catch (error) {
    toast(error);
  }
  await loadSession();
}

/** The band that says that what is shown is old. */
function showNotice() {
  const box = element("lost");
  const lost = linkState.state === "lost" && store.session?.role && now() - linkState.since > 1500;
  document.body.classList.toggle("lost", Boolean(lost));
  if (!lost) return box.querySelector(".band") && put(box);
  const next = linkState.next ? `Next try in ${about(Math.max(0, linkState.next - now()) / 1000)}.` : "Trying…";
  const told = box.querySelector(".band-next");
  if (told) return say(told, next);
  return put(
    box,
    h("div", { class: "band" }, icon("offline"),
      h("p", {}, h("strong", { role: "alert" }, `No connection to the edge since ${clock(linkState.since)}.`), " What you see is from then. ", h("span", { class: "band-next" }, next)),
      button("Try now", tryNow, {})),
  );
}

let version = "";

/** Put the frame into life. */
export function frame() {
  on("link", showStatus);
  on("link", showNotice);
  for (const topic of ["session", "camera", "cameras"]) on(topic, showStatus);
  setInterval(showNotice, 1000);
  showStatus();
  on("event", ({ event, isNew }) => {
    if (isNew && event.state === "open") announce("alarm", event.camera);
  });
  on("camera", remark);
  on("cameras", () => {
    for (const camera of store.cameras.values()) states.set(camera.name, camera.state);
    if (version && store.run && version !== store.run.version) put(element("updated"), h("div", { class: "band" }, icon("warning"), h("p", {}, "The edge was updated. Load the page again."), button("Load again", () => location.reload())));
    version = store.run?.version ?? "";
  });
  on("camera", title);
  on("cameras", title);
}

/** @type {Map<string, string>} */
const states = new Map();

/** @param {import("./types.js").Camera} camera */
function remark(camera) {
  const before = states.get(camera.name);
  states.set(camera.name, camera.state);
  if (before && before !== camera.state && (camera.state === "offline" || before === "offline")) {
    announce(camera.state === "offline" ? "offline" : "back", camera.name);
  }
}

let viewTitle = "";

/** The tab says what is open, also where the page itself is not seen. */
function title() {
  const open = [...store.cameras.values()].filter((camera) => camera.open_event).length;
  document.title = `${open ? `(${open}) ` : ""}${viewTitle ? `${viewTitle} · ` : ""}HeadHunt`;
}

/** @param {string} text */
export function setTitle(text) {
  viewTitle = text;
  title();
}

/** @type {Map<string, Set<string>>} */
const unsaid = new Map();
let sayTimer = 0;
let saidAt = 0;

/** @param {string} kind @param {string} name */
function announce(kind, name) {
  unsaid.set(kind, (unsaid.get(kind) ?? new Set()).add(name));
  if (!sayTimer) sayTimer = setTimeout(speak, Math.max(300, saidAt + QUIET_MS - Date.now()));
}

function speak() {
  sayTimer = 0;
  saidAt = Date.now();
  const words = { alarm: ["alarm", "New alarm on"], offline: ["camera", "Offline:"], back: ["camera", "Back again:"] };
  const parts = [...unsaid].map(([kind, names]) => {
    const [noun, phrase] = words[/** @type {"alarm"} */ (kind)];
    const few = [...names].slice(0, 3).join(", ");
    return names.size > 3 ? `${phrase} ${few} and ${counted(names.size - 3, `other ${noun}`)}` : `${phrase} ${few}`;
  });
  unsaid.clear();
  say(element("said"), parts.join(". "));
}

/** Say something that a click has done; for a while it can be read, too. @param {string} text */
export function told(text) {
  say(element("said"), text);
  const box = h("div", { class: "done", "aria-hidden": "true" }, icon("online"), h("p", {}, text));
  element("toasts").append(box);
  setTimeout(() => box.remove(), 5000);
}

/** An error that has no place of its own. @param {any} error */
export function toast(error) {
  if (error?.name === "AbortError") return;
  const box = failure(error);
  box.append(button("", () => box.remove(), { icon: "close", kind: "quiet", label: "Close" }));
  element("toasts").append(box);
  setTimeout(() => box.remove(), 12000);
}

/** An error in its place. @param {any} error @param {(() => void)|null} [again] */
export function failure(error, again = null) {
  return h("div", { class: "error", role: "alert" }, icon("warning"), h("p", {}, error?.message ?? String(error)), again && button("Try again", again));
}

/** Nothing here, and what to do about it. @param {string} drawing @param {string} heading @param {...any} children */
export function empty(drawing, heading, ...children) {
  return h("div", { class: "empty" }, icon(drawing), h("h2", {}, heading), children);
}
