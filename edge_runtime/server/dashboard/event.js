// @ts-check
/** One event in full: what was filmed, what the model saw, how the score went, and the operator's word on it. */
import { change, get, path, withQuery } from "./api.js";
import { chart } from "./chart.js";
import { button, h, icon, link, put, refuse, route } from "./dom.js";
import { neighbours, renew } from "./feed.js";
import { sheet, shortcut } from "./keys.js";
import { empty, failure, setTitle, told } from "./shell.js";
import { cannotAct, on, store, takeEvent } from "./store.js";
import { clock, dayAndClock, dayAndTime, duration, markWords, rarity, scored, whole } from "./words.js";

/** @typedef {import("./types.js").Event} Event */

const AROUND_S = 180;
export const NO_FEEDBACK = "Feedback is off. Write “feedback: {}” into cameras.yaml and start hh-edge again.";

/** @param {import("./types.js").View} view */
export async function event({ root, args, signal }) {
  /** @type {Event} */
  let shown;
  try {
    shown = await get(path("events", args[0] ?? ""), signal);
  } catch (error) {
    if (signal.aborted || /** @type {any} */ (error).status !== 404) throw error;
    put(root, empty("events", "This event is gone", h("p", {}, "It was forgotten, or is older than what is kept."), link("#/events", { class: "button" }, "To all events")));
    return;
  }
  setTitle(`${shown.camera} ${dayAndTime(shown.start)}`);
  const head = h("div", { class: "view-head" });
  const seen = h("div", { class: "stack" });
  const verdict = h("section", { class: "card", "aria-labelledby": "verdict" });
  const words = h("section", { class: "card", "aria-labelledby": "words" });
  const line = chart(signal, { label: `Score of ${shown.camera} around the event` });
  const problem = h("div", {});
  const scores = h("section", { class: "card", "aria-labelledby": "around" }, h("h2", { id: "around" }, "Score"), problem, line.element);
  put(root, head, h("div", { class: "two" }, seen, h("div", { class: "stack" }, verdict, scores, words)));

  let media = "";
  let said = "";
  const show = () => {
    heading(head, shown);
    const key = `${shown.clip} ${shown.snapshot} ${shown.seen} ${shown.state}`;
    if (key !== media) put(seen, film(shown), modelSaw(shown));
    media = key;
    // An event that goes on is told every few seconds: nothing is touched under a finger unless it says something else.
    const saying = JSON.stringify([shown.mark, shown.description]);
    if (saying !== said) judge(verdict, shown, take);
    if (saying !== said || !words.childElementCount) describe(words, shown, take);
    said = saying;
  };
  const take = (/** @type {Event} */ now) => {
    shown = now;
    said = "";
    renew(now);
    takeEvent(now);
    show();
  };
  let loaded = 0;
  const load = async () => {
    loaded = Date.now();
    const start = Date.parse(shown.start) / 1000;
    const end = shown.end ? Date.parse(shown.end) / 1000 : start + shown.seconds;
    const [from, to] = [start - AROUND_S, end + AROUND_S];
    try {
      const query = { from: new Date(from * 1000).toISOString(), to: new Date(to * 1000).toISOString(), points: 600 };
      const found = await get(withQuery(path("cameras", shown.camera, "scores"), query), signal);
      const threshold = store.cameras.get(shown.camera)?.alarm.threshold ?? 1;
      line.show({ from, to, step: found.step_s, scores: found.scores, threshold, trial: null, bands: [{ start, end, kind: "event" }] });
      put(problem);
    } catch (error) {
      if (!signal.aborted) put(problem, failure(error, load));
    }
  };
  show();
  load();
  on("event", ({ event: now }) => {
    if (now.id !== shown.id || now === shown) return;
    const due = shown.state !== now.state || Date.now() - loaded > 5000;
    shown = now;
    show();
    if (due) load();
  }, signal);

  shortcut("f", "False alarm", () => mark("false_alarm"), signal);
  shortcut("r", "Was real, keep", () => mark("missed"), signal);
  const mark = async (/** @type {Event["mark"]} */ to) => {
    if (!cannotAct() && store.run?.feedback) await judge(verdict, shown, take, to);
  };
  shortcut("Escape", "Back to the events", () => history.length > 1 ? history.back() : (location.hash = "#/events"), signal);
  const next = await neighbours(shown, signal).catch(() => ({ newer: null, older: null }));
  if (signal.aborted) return;
  for (const [key, id, name, drawing] of /** @type {const} */ ([["k", next.newer, "Newer", "back"], ["j", next.older, "Older", "next"]])) {
    const go = () => id && location.replace(route("event", id));
    const made = button(name, go, { icon: drawing, key, kind: "quiet", reason: id ? null : "There is none." });
    head.querySelector(".steps")?.append(made);
    shortcut(key, `${name} event`, go, signal);
    shortcut(key === "k" ? "ArrowLeft" : "ArrowRight", `${name} event`, go, signal);
  }
}

/** @param {HTMLElement} box @param {Event} one */
function heading(box, one) {
  const rows = [
    ["Peak", scored(one.peak), one.p ? rarity(one.p) : ""], ["Mean", scored(one.mean), ""],
    [one.state === "open" ? "So far" : "Length", duration(one.seconds), one.end && one.state === "ended" ? `until ${clock(one.end)}` : ""],
  ];
  const when = h("time", { datetime: one.start, title: whole(one.start) }, dayAndClock(one.start));
  const facts = h("dl", { class: "facts" }, rows.map(([name, value, more]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("small", {}, more)))),
    one.state === "open" && h("div", {}, h("dt", {}, "State"), h("dd", { class: "hot" }, "Going on")));
  if (box.childElementCount) {
    // What can be focused stays where it is.
    box.querySelector("time")?.replaceWith(when);
    box.querySelector(".facts")?.replaceWith(facts);
  } else put(box, h("div", {}, h("h1", {}, link(route("camera", one.camera), {}, one.camera), " ", when), facts), h("div", { class: "steps" }));
}

/** The clip, else the snapshot, else why there is neither. @param {Event} one */
function film(one) {
  const snapshot = path("events", one.id, "snapshot");
  const late = one.state === "open" ? "The clip follows when the event has ended." : "";
  if (one.clip) {
    const video = h("video", { controls: true, playsinline: true, preload: "metadata", poster: one.snapshot ? snapshot : null, src: path("events", one.id, "clip"), "aria-label": `Clip of ${one.camera}` });
    const problem = h("div", {});
    video.addEventListener("error", () => put(problem, failure(new Error("This browser cannot play the clip. Download it instead.")), link(path("events", one.id, "clip"), { class: "button", download: `${one.id}.mp4` }, "Download")));
    return h("div", { class: "film" }, video, problem);
  }
  if (one.snapshot) return h("figure", { class: "film" }, h("img", { src: snapshot, alt: `Snapshot of ${one.camera} at the peak of the event` }), late && h("figcaption", { class: "muted small" }, late));
  return h("div", { class: "film none" }, icon("film"), h("p", {}, store.run?.clips ? late || "No clip of this event is kept any more." : "Clips are off. Write “clips: {path: clips}” into cameras.yaml to keep a picture and a clip of every event."));
}

/** @param {Event} one */
function modelSaw(one) {
  if (!one.seen) return null;
  return h("section", { class: "card", "aria-labelledby": "seen" }, h("h2", { id: "seen" }, "What the model saw"),
    h("img", { class: "sheet-picture", src: path("events", one.id, "seen"), alt: `The frames of ${one.camera} that the model saw of the segment with the peak, in order`, loading: "lazy" }),
    h("p", { class: "muted small" }, "All frames of the segment with the peak, row by row. Nothing else of it was looked at."));
}

/**
 * The operator's word. With `to`, it is said at once.
 *
 * @param {HTMLElement} box @param {Event} one @param {(now: Event) => void} take @param {Event["mark"]} [to]
 */
async function judge(box, one, take, to) {
  const reason = cannotAct() ?? (store.run?.feedback ? null : NO_FEEDBACK);
  const problem = h("div", {});
  const send = async (/** @type {Event["mark"]} */ verdict) => {
    try {
      const now = await change("POST", path("events", one.id, "feedback"), { verdict });
      take(now);
      told(verdict ? `Marked: ${markWords(verdict)}.` : "The mark is taken back.");
      /** @type {HTMLElement|null} */ (box.querySelector(`[data-verdict="${verdict ?? one.mark}"]`))?.focus();
    } catch (error) {
      put(problem, failure(error));
    }
  };
  if (to !== undefined) {
    box.append(problem);
    return send(to);
  }
  const choice = (/** @type {"false_alarm"|"missed"} */ verdict, /** @type {string} */ text, /** @type {string} */ key) => {
    const made = button(text, () => send(one.mark === verdict ? null : verdict), { key, reason, kind: one.mark === verdict ? "chosen" : "" });
    made.setAttribute("aria-pressed", String(one.mark === verdict));
    made.dataset.verdict = verdict;
    return made;
  };
  put(
    box,
    h("h2", { id: "verdict" }, "Was this real?"),
    h("div", { class: "buttons" }, choice("false_alarm", "False alarm", "f"), choice("missed", "Was real, keep", "r")),
    reason ? h("p", { class: "muted small" }, reason)
      : one.mark ? h("p", { class: "small" }, "Marked. Nothing changes yet: ", link("#/teach", {}, "see what would"), ".")
        : h("p", { class: "muted small" }, "Marks teach the scorer of this site. Nothing changes before you agree."),
    problem,
  );
}

/** @param {HTMLElement} box @param {Event} one @param {(now: Event) => void} take */
function describe(box, one, take) {
  if (box.querySelector("textarea")) return;
  const edit = button(one.description ? "Change" : "Describe it", () => {
    const text = h("textarea", { rows: 4, maxlength: 2000, "aria-labelledby": "words" }, one.description ?? "");
    const problem = h("div", {});
    const save = button("Save", async () => {
      try {
        const now = await change("PUT", path("events", one.id, "description"), { text: text.value.trim() });
        put(box);
        take(now ?? { ...one, description: text.value.trim() || null });
      } catch (error) {
        put(problem, failure(error));
      }
    }, { kind: "primary" });
    const leave = button("Leave it", () => (put(box), describe(box, one, take)), { kind: "quiet" });
    put(box, h("h2", { id: "words" }, "In words"), text, problem, h("div", { class: "buttons" }, save, leave));
    text.focus();
  }, { icon: "pen", kind: "quiet", reason: cannotAct() });
  const forget = button("Forget it…", () => forgetSheet(store.recent.get(one.id) ?? one), { icon: "bin", kind: "quiet danger" });
  refuse(forget, cannotAct());
  put(box, h("h2", { id: "words" }, "In words"), h("p", { class: one.description ? "said" : "muted" }, one.description ?? "Nobody has described it."), h("div", { class: "buttons" }, edit, forget));
}

/** @param {Event} one */
function forgetSheet(one) {
  const problem = h("div", {});
  const yes = button("Forget it for good", async () => {
    try {
      await change("POST", "api/forget", { camera: one.camera, start: one.start, end: one.end ?? one.start });
      store.recent.delete(one.id);
      made.close();
      told("Forgotten.");
      location.hash = "#/events";
    } catch (error) {
      put(problem, failure(error));
    }
  }, { kind: "primary danger" });
  const made = sheet("Forget this event?", h("p", {}, `Pictures, clip, scores, marks and features of ${one.camera} from ${dayAndTime(one.start)} on, ${duration(one.seconds)}, are deleted. They cannot be brought back.`), problem, h("div", { class: "buttons" }, yes, button("Keep it", () => made.close())));
}
