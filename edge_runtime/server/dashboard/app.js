// @ts-check
/** Begins: who are we, what runs, which view. Every view gets a signal that ends with it. */
import { whenUnauthorized } from "./api.js";
import { put } from "./dom.js";
import { applyTheme, help, shortcut } from "./keys.js";
import { failure, frame, setTitle, showTabs } from "./shell.js";
import { loadRecent, loadSession, loadWall, on, store } from "./store.js";
import { wall } from "./wall.js";

/** Views beside the wall are loaded when they are first gone to.
 * @type {Object<string, () => Promise<(view: import("./types.js").View) => any>>} */
const VIEWS = {
  "": async () => wall,
  events: async () => (await import("./events.js")).events,
  event: async () => (await import("./event.js")).event,
  camera: async () => (await import("./camera.js")).camera,
  teach: async () => (await import("./teach.js")).teach,
};
/** @type {Object<string, string>} */
const TITLES = { "": "Wall", events: "Events", event: "Event", camera: "Camera", teach: "Teach" };

const root = /** @type {HTMLElement} */ (document.getElementById("view"));
let ending = new AbortController();
let first = true;

/** `#/camera/Tor%20S%C3%BCd?span=day` to its parts. */
function parsed() {
  const [where, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = where.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { kind: parts[0] in VIEWS ? parts[0] : "", args: parts.slice(1), query: new URLSearchParams(query) };
}

async function show() {
  ending.abort();
  ending = new AbortController();
  const { signal } = ending;
  const { kind, args, query } = parsed();
  showTabs(kind);
  setTitle(TITLES[kind]);
  try {
    const view = store.session?.role ? await VIEWS[kind]() : (await import("./signin.js")).signin;
    if (signal.aborted) return;
    put(root);
    root.className = `view-${store.session?.role ? kind || "wall" : "signin"}`;
    await view({ root, args, query, signal });
  } catch (error) {
    if (!signal.aborted) put(root, failure(error, show));
  }
  // A reader begins where the new view begins; the first one begins at the top anyway.
  if (!first && !signal.aborted && !root.contains(document.activeElement)) root.focus({ preventScroll: true });
  first = false;
}

async function load() {
  await loadWall();
  loadRecent().catch(() => {
    // Counts of today follow with the next try; the wall stands without them.
  });
}

async function begin() {
  applyTheme();
  frame();
  shortcut("?", "Keys and settings", help);
  shortcut("g w", "Wall", () => (location.hash = "#/"));
  shortcut("g e", "Events", () => (location.hash = "#/events"));
  shortcut("g t", "Teach", () => (location.hash = "#/teach"));
  addEventListener("hashchange", show);
  /** @type {string|null|undefined} */
  let role;
  on("session", async () => {
    const now = store.session?.role ?? null;
    if (now === role) return;
    role = now;
    try {
      if (now) await load();
      await show();
    } catch (error) {
      put(root, failure(error, () => location.reload()));
    }
  });
  whenUnauthorized(() => {
    if (store.session?.role) loadSession().catch(() => {});
  });
  try {
    await loadSession();
  } catch (error) {
    put(root, failure(error, () => location.reload()));
  }
}

begin();
