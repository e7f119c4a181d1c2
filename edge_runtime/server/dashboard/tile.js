// @ts-check
/** One camera on the wall: picture, line, state in words, badges, pause. */
import { change, path } from "./api.js";
import { attribute, button, h, icon, link, put, refuse, route, say } from "./dom.js";
import { livePicture } from "./pictures.js";
import { toast, told } from "./shell.js";
import { spark } from "./spark.js";
import { alarmsToday, cannotAct, on, store, takeCamera } from "./store.js";
import { about, ago, condition, qualityWords, scored, stateWords } from "./words.js";

/** @typedef {import("./types.js").Camera} Camera */

/** Pause a camera, or let it go on. @param {Camera} camera */
export async function togglePause(camera) {
  try {
    const now = await change("POST", path("cameras", camera.name, camera.paused ? "resume" : "pause"));
    takeCamera(now);
    told(now.paused ? `${now.name} is paused.` : `${now.name} is watched again.`);
  } catch (error) {
    toast(error);
  }
}

/** The drawing that goes with a condition. @param {string} what */
export const stateIcon = (what) => (what === "paused" ? "pause" : what);

/** Badges of what is wrong with the picture. @param {Camera} camera */
export function badges(camera) {
  return camera.quality.filter((one) => one !== "ok").map((quality) => {
    const [word, meaning] = qualityWords(quality);
    const begun = camera.quality_since?.[quality];
    return h("span", { class: "badge", title: meaning }, icon("warning"), h("span", {}, word, begun && ` for ${about(ago(begun))}`));
  });
}

/** A live picture with its age where it is old. @param {string} name @param {AbortSignal} signal */
export function framed(name, signal) {
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  const age = h("span", { class: "age" });
  const box = h("span", { class: "picture empty-picture" }, icon("film"), image, age);
  let at = 0;
  const fresh = () => {
    const camera = store.cameras.get(name);
    return Boolean(camera && camera.picture && (camera.state === "online" || !at));
  };
  const show = () => {
    const camera = store.cameras.get(name);
    const seconds = (Date.now() - at) / 1000;
    const old = at > 0 && (seconds > 5 || camera?.state !== "online");
    box.classList.toggle("empty-picture", !at);
    box.classList.toggle("stale", old);
    say(age, old ? (seconds > 5 ? `${about(seconds)} old` : "last picture") : "");
    attribute(image, "alt", at ? `${old ? "Last" : "Live"} picture of ${name}` : "");
  };
  livePicture(image, name, signal, fresh, (now) => {
    at = now;
    show();
  });
  on("camera", (camera) => camera.name === name && show(), signal);
  const timer = setInterval(show, 2000);
  signal.addEventListener("abort", () => clearInterval(timer));
  return box;
}

/**
 * @param {string} name @param {AbortSignal} signal
 * @returns {{element: HTMLElement, update: () => void}}
 */
export function tile(name, signal) {
  const title = h("span", { class: "tile-name" }, name);
  const number = h("span", { class: "score", title: "Score now; an alarm is above the threshold" });
  const state = h("span", { class: "state" });
  const marks = h("span", { class: "badges" });
  const today = h("span", { class: "today" });
  const pause = button("", () => togglePause(/** @type {Camera} */ (store.cameras.get(name))), { kind: "quiet", label: "Pause", reason: cannotAct() });
  pause.dataset.stop = "";
  const head = link(route("camera", name), { class: "tile-link", "data-tile": "" }, title);
  const element = h(
    "article",
    { class: "tile", "data-name": name },
    framed(name, signal),
    marks,
    h("div", { class: "tile-head" }, h("h3", {}, head), number),
    spark(name, signal),
    h("div", { class: "tile-foot" }, state, today, pause),
  );
  let shown = "";
  const update = () => {
    const camera = store.cameras.get(name);
    if (!camera) return;
    const what = condition(camera);
    attribute(element, "data-state", what);
    say(number, camera.score && camera.state === "online" && !camera.paused ? scored(camera.score.smoothed) : "–");
    number.classList.toggle("high", Boolean(camera.score?.anomalous));
    const words = what === "alarm" ? "Alarm now" : stateWords(camera);
    const key = `${what} ${words} ${camera.quality} ${camera.paused} ${store.session?.role}`;
    if (key !== shown) {
      shown = key;
      put(state, icon(stateIcon(what)), h("span", {}, words));
      put(marks, badges(camera));
      put(pause, icon(camera.paused ? "play" : "pause"));
      const label = camera.paused ? `Watch ${name} again` : `Pause ${name}`;
      attribute(pause, "aria-label", label);
      refuse(pause, cannotAct());
      if (!cannotAct()) attribute(pause, "title", label);
    }
    const count = alarmsToday().get(name) ?? 0;
    say(today, count ? `${count} today` : "");
    attribute(today, "title", count ? `Alarms since midnight: ${count}` : null);
  };
  update();
  return { element, update };
}
