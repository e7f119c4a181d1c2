// @ts-check
/**
 * The stream of what happens. Where it breaks off, the page says since when, tries again after 1, 2, 4 … 30 seconds,
 * and asks for everything again that it may have missed.
 */
import { ask } from "./api.js";
import { dropCamera, dropLines, emit, loadRecent, loadWall, on, store, takeCamera, takeEvent, takeScore } from "./store.js";
import { now } from "./words.js";

const LONGEST_MS = 30000;
/** A stream that said nothing for so long is looked after: the network may have died without a word. */
const SILENT_MS = 25000;

/** @type {{state: "connecting"|"live"|"lost", since: number, next: number}} Times in ms since 1970, edge's clock. */
export const linkState = { state: "connecting", since: now(), next: 0 };

/** @type {EventSource|null} */
let source = null;
let wait = 1000;
let heard = 0;
let timer = 0;
let wanted = false;

/** @param {"connecting"|"live"|"lost"} state */
function tell(state) {
  if (linkState.state !== state) Object.assign(linkState, { state, since: now() });
  emit("link", linkState);
}

/** Begin to listen, and go on until `stop`. */
export function start() {
  if (wanted) return;
  wanted = true;
  open();
}

/** Listen no more: nobody is signed in. */
export function stop() {
  wanted = false;
  clearTimeout(timer);
  source?.close();
  source = null;
}

/** Try again now. */
export function tryNow() {
  if (wanted && linkState.state === "lost") attempt();
}

/** @param {boolean} [missed] Whether something may have been missed before. */
function open(missed = linkState.state === "lost") {
  source?.close();
  const opened = new EventSource("api/live");
  source = opened;
  heard = Date.now();
  opened.addEventListener("open", () => {
    wait = 1000;
    heard = Date.now();
    if (missed) catchUp().then(() => tell("live"), fail);
    else tell("live");
  });
  opened.addEventListener("error", () => opened === source && fail());
  const take = (/** @type {string} */ type, /** @type {(value: any) => void} */ act) =>
    opened.addEventListener(type, (message) => {
      heard = Date.now();
      act(JSON.parse(/** @type {MessageEvent} */ (message).data));
    });
  take("camera", takeCamera);
  take("score", takeScore);
  take("event", (event) => takeEvent(event, false));
  take("gone", ({ name }) => dropCamera(name));
}

function fail() {
  if (!wanted) return;
  source?.close();
  source = null;
  const due = wait * (0.8 + Math.random() * 0.2);
  linkState.next = now() + due;
  tell("lost");
  clearTimeout(timer);
  timer = setTimeout(attempt, due);
  wait = Math.min(wait * 2, LONGEST_MS);
}

/** Asks plainly first: an EventSource does not say that a token is needed. */
async function attempt() {
  clearTimeout(timer);
  linkState.next = 0;
  emit("link", linkState);
  try {
    await ask("GET", "api/run", { timeout: 5000 });
    if (wanted) open();
  } catch {
    fail();
  }
}

async function catchUp() {
  dropLines();
  await Promise.all([loadWall(), loadRecent()]);
  emit("fresh");
}

setInterval(async () => {
  if (!source || linkState.state !== "live" || Date.now() - heard < SILENT_MS) return;
  try {
    await ask("GET", "healthz", { timeout: 5000 });
    heard = Date.now();
  } catch {
    fail();
  }
}, 5000);
addEventListener("offline", () => source && fail());
addEventListener("online", tryNow);

/** A tab that nobody looks at gives its stream back after a while: a browser has six connections to a host for all its
 * tabs. The title goes on counting alarms, by asking now and then. */
const REST_MS = 60000;
let restTimer = 0;
let resting = false;
document.addEventListener("visibilitychange", () => {
  clearTimeout(restTimer);
  if (document.hidden) {
    restTimer = setTimeout(() => {
      if (!wanted || linkState.state !== "live") return;
      resting = true;
      source?.close();
      source = null;
    }, REST_MS);
  } else if (resting) {
    resting = false;
    if (wanted) open(true);
  } else tryNow();
});
setInterval(() => {
  if (resting && wanted) loadWall().catch(() => {});
}, 20000);
on("session", () => (store.session?.role ? start() : stop()));
