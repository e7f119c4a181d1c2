// @ts-check
/**
 * Live pictures: one a second of every camera that is seen, while the tab is seen, and few requests at a time. The
 * browser opens six connections to one host, and the stream of events has one of them.
 */
import { ApiError, ask, path } from "./api.js";

const EVERY_MS = 1000;
const AT_ONCE = 4;
const SLOWEST_MS = 10000;

/**
 * @typedef {{image: HTMLImageElement, name: string, allowed: () => boolean, told: (at: number) => void, seen: boolean,
 *   busy: boolean, due: number, failures: number, url: string, at: number, signal: AbortSignal}} Feed
 */

/** @type {Map<Element, Feed>} */
const feeds = new Map();
let underWay = 0;
let timer = 0;

const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const feed = feeds.get(entry.target);
    if (feed) feed.seen = entry.isIntersecting;
  }
  pump();
});
document.addEventListener("visibilitychange", pump);

function pump() {
  clearTimeout(timer);
  if (document.hidden) return;
  const now = performance.now();
  const ready = [...feeds.values()].filter((feed) => feed.seen && !feed.busy).sort((a, b) => a.due - b.due);
  let soonest = Infinity;
  for (const feed of ready) {
    if (feed.due > now) soonest = Math.min(soonest, feed.due);
    else if (!feed.allowed()) {
      feed.due = now + EVERY_MS;
      soonest = Math.min(soonest, feed.due);
    } else if (underWay < AT_ONCE) show(feed);
  }
  if (soonest < Infinity) timer = setTimeout(pump, Math.max(20, soonest - now));
}

/** @param {Feed} feed */
async function show(feed) {
  feed.busy = true;
  underWay++;
  const begun = performance.now();
  let wait = EVERY_MS;
  try {
    const response = await ask("GET", path("cameras", feed.name, "picture"), { signal: feed.signal, timeout: 8000 });
    const url = URL.createObjectURL(await response.blob());
    const old = feed.url;
    feed.url = url;
    feed.image.src = url;
    await feed.image.decode().catch(() => {});
    if (old) URL.revokeObjectURL(old);
    feed.at = Date.now();
    feed.failures = 0;
  } catch (error) {
    // The first picture is still being made, or the camera has none: the tile says so by the picture's age.
    feed.failures++;
    const asked = error instanceof ApiError ? error.retryAfter * 1000 : 0;
    wait = Math.max(asked, Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(feed.failures - 1, 4)));
  }
  feed.busy = false;
  underWay--;
  feed.due = begun + wait;
  if (feed.signal.aborted && feed.url) URL.revokeObjectURL(feed.url);
  else feed.told(feed.at);
  pump();
}

/**
 * Keep an image at the newest picture of a camera.
 *
 * @param {HTMLImageElement} image
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {() => boolean} allowed Whether the camera has anything new; without, the last picture stays.
 * @param {(at: number) => void} told When the shown picture was got, in ms since 1970 here; 0 while there is none.
 */
export function livePicture(image, name, signal, allowed, told) {
  const feed = { image, name, allowed, told, seen: false, busy: false, due: Math.random() * 300, failures: 0, url: "", at: 0, signal };
  feeds.set(image, feed);
  watch.observe(image);
  signal.addEventListener("abort", () => {
    watch.unobserve(image);
    feeds.delete(image);
    if (feed.url && !feed.busy) URL.revokeObjectURL(feed.url);
  });
}
