// @ts-check
/** One camera: its picture, its scores of an hour, a day or a week, missed events, and when it alarms. */
import { change, get, path, withQuery } from "./api.js";
import { chart } from "./chart.js";
import { attribute, button, h, icon, link, put, refuse } from "./dom.js";
import { NO_FEEDBACK } from "./event.js";
import { sheet, shortcut } from "./keys.js";
import { empty, failure, setTitle, told } from "./shell.js";
import { cannotAct, dropCamera, on, store } from "./store.js";
import { badges, framed, stateIcon, togglePause } from "./tile.js";
import { trial } from "./trial.js";
import { condition, now, qualityWords, rarity, scored, sentence, since, stateWords } from "./words.js";

/** @typedef {import("./types.js").Camera} Camera */

/** @type {Object<string, [string, number]>} */
const SPANS = { hour: ["Hour", 3600], day: ["Day", 86400], week: ["Week", 604800] };

/** @param {import("./types.js").View} view */
export function camera({ root, args, query, signal }) {
  const name = args[0] ?? "";
  if (!store.cameras.has(name)) {
    put(root, empty("wall", "No such camera", h("p", {}, `There is no camera “${name}” now.`), link("#/", { class: "button" }, "To the wall")));
    return;
  }
  const known = () => /** @type {Camera} */ (store.cameras.get(name));
  setTitle(name);
  const facts = h("div", { class: "camera-state" });
  const acts = h("div", { class: "steps" });
  const line = chart(signal, { label: `Score of ${name}`, chosen: (start, end) => missed.choose(start, end) });
  const missed = missedForm(name, (start, end) => line.set({ bands: [...bands, ...(end > start ? [{ start, end, kind: /** @type {const} */ ("chosen") }] : [])] }));
  const tried = trial(name, signal, (threshold) => line.set({ trial: threshold }), () => line.set({ threshold: known().alarm.threshold }));
  /** @type {import("./chart.js").Band[]} */
  let bands = [];
  let span = query.get("span") ?? "hour";
  if (!(span in SPANS)) span = "hour";
  const problem = h("div", {});
  const spans = h("div", { class: "choices", role: "group", "aria-label": "How far back" }, Object.entries(SPANS).map(([key, [word]]) => {
    const made = h("button", { type: "button", class: "choice", "data-span": key }, word);
    made.addEventListener("click", () => {
      span = key;
      history.replaceState(null, "", `${location.hash.split("?")[0]}?span=${key}`);
      load();
    });
    return made;
  }));
  put(
    root,
    h("div", { class: "view-head" }, h("h1", {}, name), acts),
    h("div", { class: "two" },
      h("div", { class: "stack" },
        h("section", { class: "card flush", "aria-label": "Picture and state" }, framed(name, signal), facts),
        h("section", { class: "card", "aria-labelledby": "scores" }, h("div", { class: "card-head" }, h("h2", { id: "scores" }, "Score"), spans), problem, line.element, missed.element)),
      tried.element),
  );

  let asked = 0;
  const load = async () => {
    const mine = ++asked;
    for (const one of spans.children) attribute(one, "aria-pressed", String(one.getAttribute("data-span") === span));
    const to = now() / 1000;
    const from = to - SPANS[span][1];
    const times = { from: new Date(from * 1000).toISOString(), to: new Date(to * 1000).toISOString() };
    try {
      const [scores, events] = await Promise.all([
        get(withQuery(path("cameras", name, "scores"), { ...times, points: 700 }), signal),
        get(withQuery("api/events", { ...times, camera: name, limit: 200 }), signal),
      ]);
      if (mine !== asked) return;
      bands = events.events.map((/** @type {import("./types.js").Event} */ one) => {
        const start = Date.parse(one.start) / 1000;
        return { start, end: one.end && one.state === "ended" ? Date.parse(one.end) / 1000 : to, kind: /** @type {const} */ ("event") };
      });
      line.show({ from, to, step: scores.step_s, scores: scores.scores, threshold: known().alarm.threshold, trial: tried.threshold(), bands });
      put(problem);
    } catch (error) {
      if (!signal.aborted && mine === asked) put(problem, failure(error, load));
    }
  };
  const update = () => {
    const one = store.cameras.get(name);
    if (!one) return;
    state(facts, one);
    controls(acts, one);
  };
  update();
  load();
  let wanted = Date.now();
  on("camera", (one) => one.name === name && update(), signal);
  on("score", (score) => {
    if (score.camera !== name) return;
    update();
    if (span === "hour" && Date.now() - wanted > 10000) {
      wanted = Date.now();
      load();
    }
  }, signal);
  on("cameras", () => store.cameras.has(name) ? update() : (location.hash = "#/"), signal);
  on("fresh", load, signal);
  shortcut("p", "Pause this camera, or watch it again", () => cannotAct() || togglePause(known()), signal);
  shortcut("Escape", "Back to the wall", () => (location.hash = "#/"), signal);
}

/** @param {HTMLElement} box @param {Camera} one */
function state(box, one) {
  const what = condition(one);
  const score = one.score && one.state === "online" ? one.score : null;
  const begun = what === "alarm" ? store.recent.get(one.open_event ?? "")?.start ?? null : one.since;
  const key = JSON.stringify([what, stateWords(one), one.detail, one.quality, one.open_event, since(begun), score?.smoothed, score?.p]);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  attribute(box, "data-state", what);
  put(
    box,
    h("p", { class: "state" }, icon(stateIcon(what)), h("strong", {}, what === "alarm" ? "Alarm now" : stateWords(one.detail ? { ...one, reason: null } : one)), begun && h("span", { class: "muted" }, since(begun))),
    one.open_event && h("p", {}, link(`#/event/${encodeURIComponent(one.open_event)}`, {}, "Look at the event")),
    one.detail && one.state !== "online" && h("p", {}, sentence(one.detail)),
    badges(one).map((badge, at) => h("p", { class: "quality" }, badge, " ", qualityWords(one.quality.filter((word) => word !== "ok")[at])[1])),
    score && h("p", {}, h("span", { class: `score${score.anomalous ? " high" : ""}` }, scored(score.smoothed)), score.p ? ` ${rarity(score.p)}` : " score now", one.fps ? h("span", { class: "muted" }, ` · ${one.fps.toFixed(0)} pictures a second`) : ""),
  );
}

/** @param {HTMLElement} box @param {Camera} one */
function controls(box, one) {
  const key = `${one.paused} ${one.added} ${cannotAct()}`;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  put(
    box,
    link(`#/events?camera=${encodeURIComponent(one.name)}`, { class: "button quiet" }, icon("events"), h("span", {}, "Its events")),
    button(one.paused ? "Watch again" : "Pause", () => togglePause(/** @type {Camera} */ (store.cameras.get(one.name))), { icon: one.paused ? "play" : "pause", key: "p", reason: cannotAct() }),
    one.added && button("Remove", () => removal(one.name), { icon: "bin", kind: "quiet danger", reason: cannotAct() }),
  );
}

/** @param {string} name */
function removal(name) {
  const problem = h("div", {});
  const yes = button("Remove it", async () => {
    try {
      await change("DELETE", path("cameras", name));
      made.close();
      dropCamera(name);
    } catch (error) {
      put(problem, failure(error));
    }
  }, { kind: "primary danger" });
  const made = sheet(`Remove ${name}?`, h("p", {}, "It is watched no more. Its events stay."), problem, h("div", { class: "buttons" }, yes, button("Keep it", () => made.close())));
}

/** @param {string} name @param {(start: number, end: number) => void} changed Seconds since 1970. */
function missedForm(name, changed) {
  const reason = cannotAct() ?? (store.run?.feedback ? null : NO_FEEDBACK);
  const from = h("input", { type: "datetime-local", step: "1", id: "missed-from" });
  const to = h("input", { type: "datetime-local", step: "1", id: "missed-to" });
  const result = h("div", { class: "small", role: "status" });
  const seconds = () => [from, to].map((input) => new Date(input.value).getTime() / 1000);
  for (const input of [from, to]) input.addEventListener("input", () => changed(...(/** @type {[number, number]} */ (seconds()))));
  const send = button("Mark as missed", async () => {
    const [start, end] = seconds();
    if (!(end > start)) return put(result, failure(new Error("Say from when to when something was missed.")));
    try {
      await change("POST", "api/feedback/missed", { camera: name, start: new Date(start * 1000).toISOString(), end: new Date(end * 1000).toISOString() });
      put(result, h("p", {}, "Marked. Nothing changes yet: ", link("#/teach", {}, "see what would"), "."));
    } catch (error) {
      put(result, failure(error));
    }
  }, { kind: "" });
  refuse(send, reason);
  const local = (/** @type {number} */ time) => new Date(time * 1000 - new Date(time * 1000).getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  const fold = h("details", { class: "fold" }, h("summary", {}, "Something was missed here"),
    h("p", { class: "muted small" }, "Drag over the line above, or say when."),
    h("div", { class: "fields" }, h("label", { for: "missed-from" }, "From"), from, h("label", { for: "missed-to" }, "To"), to, send),
    reason && h("p", { class: "muted small" }, reason), result);
  return {
    element: fold,
    choose: (/** @type {number} */ start, /** @type {number} */ end) => {
      if (end - start < 1) return;
      fold.open = true;
      [from.value, to.value] = [local(start), local(end)];
      changed(start, end);
    },
  };
}
