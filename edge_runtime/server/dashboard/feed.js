// @ts-check
/** The events that were looked for, newest first, page by page; kept while one looks at one of them. */
import { get, path, withQuery } from "./api.js";

/** @typedef {import("./types.js").Event} Event */
/** @typedef {{camera: string, day: string, peak: string, mark: string, hour: string}} Wanted */

const PAGE = 100;

/** @type {{wanted: Wanted, events: Event[], next: string|null|undefined, scroll: number, at: string}} `next` is
 *   undefined before the first page, and null behind the last one. */
export const feed = { wanted: none(), events: [], next: undefined, scroll: 0, at: "" };

/** @returns {Wanted} */
export function none() {
  return { camera: "", day: "", peak: "", mark: "", hour: "" };
}

/** Look for something else. @param {Wanted} wanted */
export function look(wanted) {
  Object.assign(feed, { wanted, events: [], next: undefined, scroll: 0 });
}

/** The stretch of time that is wanted, if any. @param {Wanted} wanted @returns {{from: string|null, to: string|null}} */
export function stretch({ day, hour }) {
  if (!day) return { from: null, to: null };
  const begin = new Date(`${day}T${(hour.split("-")[0] || "0").padStart(2, "0")}:00:00`);
  const end = new Date(begin);
  if (hour) end.setHours(begin.getHours() + Number(hour.split("-")[1] ?? 1));
  else end.setDate(begin.getDate() + 1);
  return Number.isNaN(begin.getTime()) ? { from: null, to: null } : { from: begin.toISOString(), to: end.toISOString() };
}

/** @param {string|null|undefined} after @param {AbortSignal} [signal] */
function page(after, signal) {
  const { wanted } = feed;
  const query = { camera: wanted.camera, min_peak: wanted.peak, mark: wanted.mark, ...stretch(wanted), limit: PAGE, after };
  return get(withQuery(path("events"), query), signal);
}

/** The newest page as it is now; the list stays. @param {AbortSignal} signal @returns {Promise<Event[]>} */
export const newest = async (signal) => (await page(null, signal)).events;

/** Ask for the next page. @param {AbortSignal} [signal] */
export async function loadMore(signal) {
  const { wanted } = feed;
  const told = await page(feed.next, signal);
  if (feed.wanted !== wanted) return;
  const known = new Set(feed.events.map((event) => event.id));
  feed.events.push(...told.events.filter((/** @type {Event} */ event) => !known.has(event.id)));
  feed.next = told.next;
}

/** Whether a new event is among those that are looked for. @param {Event} event */
export function fits(event) {
  const { camera, peak, mark } = feed.wanted;
  const { from, to } = stretch(feed.wanted);
  return (!camera || event.camera === camera) && event.peak >= Number(peak || 0) &&
    (!mark || (event.mark ?? "none") === mark) && (!from || event.start >= from) && (!to || event.start < to);
}

/**
 * Take the newest page: renew what is in the list, and put what came meanwhile into its place.
 *
 * @param {Event[]} found @returns {number} How many are new; -1 where there is a hole between them and the list.
 */
export function merge(found) {
  const fresh = found.filter((event) => !renew(event));
  if (fresh.length && fresh.length === found.length && feed.events.length) return -1;
  feed.events.push(...fresh);
  feed.events.sort((one, other) => (one.start < other.start ? 1 : one.start > other.start ? -1 : 0));
  return fresh.length;
}

/** Take what is known of an event now; false where it is not in the list. @param {Event} event */
export function renew(event) {
  const at = feed.events.findIndex((one) => one.id === event.id);
  if (at >= 0) feed.events[at] = event;
  return at >= 0;
}

/**
 * The events before and after one, in the list where it is in it, else among all.
 *
 * @param {Event} event @param {AbortSignal} signal @returns {Promise<{newer: string|null, older: string|null}>}
 */
export async function neighbours(event, signal) {
  let at = feed.events.findIndex((one) => one.id === event.id);
  if (at >= 0) {
    if (at === feed.events.length - 1 && feed.next) await loadMore(signal);
    at = feed.events.findIndex((one) => one.id === event.id);
    return { newer: feed.events[at - 1]?.id ?? null, older: feed.events[at + 1]?.id ?? null };
  }
  const before = await get(withQuery(path("events"), { to: event.start, limit: 5 }), signal);
  const older = before.events.find((/** @type {Event} */ one) => one.id !== event.id && one.start <= event.start);
  // Newest first is the only order there is: look a little ahead, then farther.
  for (const hours of [1, 24, 168]) {
    const to = new Date(Date.parse(event.start) + hours * 3600000).toISOString();
    const told = await get(withQuery(path("events"), { from: event.start, to, limit: 200 }), signal);
    const others = told.events.filter((/** @type {Event} */ one) => one.id !== event.id && one.start >= event.start);
    if (others.length && !told.next) return { newer: others[others.length - 1].id, older: older?.id ?? null };
    if (told.next) break;
  }
  return { newer: null, older: older?.id ?? null };
}
