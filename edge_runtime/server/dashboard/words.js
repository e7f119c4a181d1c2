// @ts-check
/** What is said, in plain words: times, durations, states, chances. */

/** @typedef {import("./types.js").Camera} Camera */
/** @typedef {import("./types.js").Alarm} Alarm */

let offset = 0;

/** Learn how far the edge's clock is from this one. @param {string} time */
export function setClock(time) {
  const theirs = Date.parse(time);
  if (Number.isFinite(theirs)) offset = theirs - Date.now();
}

/** Milliseconds since 1970 by the edge's clock. */
export const now = () => Date.now() + offset;

const part = (/** @type {Intl.DateTimeFormatOptions} */ options) => new Intl.DateTimeFormat("en-GB", options);
const CLOCK = part({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const SHORT = part({ hour: "2-digit", minute: "2-digit" });
const DAY = part({ weekday: "short", day: "numeric", month: "short" });
const WEEKDAY = part({ weekday: "short" });
const WHOLE = part({ dateStyle: "full", timeStyle: "long" });

/** `14:03:20` in this browser's zone. @param {string|number} time */
export const clock = (time) => CLOCK.format(new Date(time));

/** `14:03`. @param {string|number} time */
export const minute = (time) => SHORT.format(new Date(time));

/** For a title: the whole date with its zone. @param {string|number} time */
export const whole = (time) => WHOLE.format(new Date(time));

/** `Today`, `Yesterday` or `Mon, 12 Jan`. @param {string|number} time */
export function day(time) {
  const date = new Date(time);
  const today = new Date(now());
  if (date.toDateString() === today.toDateString()) return "Today";
  today.setDate(today.getDate() - 1);
  return date.toDateString() === today.toDateString() ? "Yesterday" : DAY.format(date);
}

/** `Today 14:03`. @param {string|number} time */
export const dayAndTime = (time) => `${day(time)} ${minute(time)}`;

/** `Today 14:03:20`, for what may come several times a minute. @param {string|number} time */
export const dayAndClock = (time) => `${day(time)} ${clock(time)}`;

/** `14:03 today` or `Mon, 12 Jan 14:03`. @param {string|number} time */
export const sinceWhen = (time) => (day(time) === "Today" ? `${minute(time)} today` : dayAndTime(time));

/** `Mon 12`. @param {number} time */
export const weekday = (time) => `${WEEKDAY.format(time)} ${new Date(time).getDate()}`;

/** `2026-01-31` in this browser's zone. @param {number|Date} time */
export function isoDay(time) {
  const date = new Date(time);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** `4 s`, `12 min`, `3 h 05 min`, `2 days`. @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${seconds > 0 && seconds < 9.95 && seconds % 1 ? seconds.toFixed(1) : whole} s`;
  if (whole < 3600) return whole < 600 && whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.round(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(whole / 86400)} days`;
}

/** Only the largest unit, for what changes while one looks at it. @param {number} seconds */
export function about(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

/** Seconds since a time. @param {string|number} time */
export const ago = (time) => (now() - new Date(time).getTime()) / 1000;

/** `12 min (since 14:03)`. @param {string|null} time */
export function since(time) {
  if (!time) return "";
  const when = ago(time) > 72000 ? sinceWhen(time) : minute(time);
  return `for ${about(ago(time))}, since ${when}`;
}

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en-GB")} ${count === 1 ? one : many}`;

/** Two digits. @param {number} score */
export const scored = (score) => score.toFixed(2);

/** @param {number} rate */
export const perDay = (rate) => (rate >= 10 ? Math.round(rate).toString() : rate.toFixed(1).replace(/\.0$/, ""));

/** A conformal p-value as people say it. @param {number} p */
export function rarity(p) {
  const one = Math.round(1 / Math.max(p, 1e-9));
  return one <= 1 ? "as high as any normal segment" : `as high as this in 1 of ${one.toLocaleString("en-GB")} normal segments`;
}

/** @type {Object<string, string>} */
const STATES = { online: "Watching", stalled: "Stands still", offline: "Offline", unwatched: "Not watched", starting: "Starting" };

/** @type {Object<string, string>} */
const REASONS = {
  unreachable: "cannot be reached", refused: "refuses the connection", dns: "name is not known",
  unauthorized: "wants another user or password", not_found: "has no such stream", no_video: "sends no video",
  unsupported_codec: "sends a format that cannot be decoded", timeout: "does not answer in time",
  tls: "certificate is not trusted", ended: "ended its stream", hung: "does not let go",
};

/** @type {Object<string, [string, string]>} A badge, and what it means. */
const QUALITY = {
  frozen: ["Frozen", "The same picture comes again and again. Restart the camera."],
  covered: ["Covered", "Hardly anything can be seen. Look whether something is in front of the lens."],
  corrupt: ["Damaged", "Pictures arrive damaged. Look at the network."],
  drifted: ["Looks different", "The view is not what was calibrated: camera turned, lens dirty, or another season."],
};

/** With a capital and a full stop. @param {string|null} text */
export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

/** What a camera is doing, in one key. @param {Camera} camera @returns {string} */
export const condition = (camera) => (camera.paused ? "paused" : camera.open_event ? "alarm" : camera.state);

/** Whether a camera that should be watched is not. @param {Camera} camera */
export const isDown = (camera) => !camera.paused && (camera.state === "offline" || camera.state === "stalled");

/** @param {Camera} camera */
export function stateWords(camera) {
  if (camera.paused) return "Paused";
  if (camera.state === "online" && !camera.score) return "Watching, no score yet";
  const reason = camera.reason && camera.state !== "online" ? REASONS[camera.reason] ?? camera.reason : "";
  return (STATES[camera.state] ?? camera.state) + (reason ? `: ${reason}` : "");
}

/** @param {string} quality */
export const qualityWords = (quality) => QUALITY[quality] ?? [quality, ""];

/** Who said where the threshold lies. @param {Alarm} alarm */
export function thresholdBy(alarm) {
  return { bundle: "as calibrated", config: "from the configuration", page: "set on this page", budget: "from a daily budget" }[alarm.by] ?? "";
}

/** @param {import("./types.js").Event["mark"]} mark */
export const markWords = (mark) => (mark === "false_alarm" ? "False alarm" : mark === "missed" ? "Was real" : "");

export const READ_ONLY = "Your token may only look. Sign in with one that may act.";
