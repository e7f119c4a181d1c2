// @ts-check
/** When a camera alarms: a threshold, tried against the last week before it is set, or a budget of false alarms. */
import { change, get, path, withQuery } from "./api.js";
import { attribute, button, h, link, put, refuse, route, say } from "./dom.js";
import { failure, told } from "./shell.js";
import { cannotAct, lineOf, on, store, takeCamera } from "./store.js";
import { about, counted, dayAndClock, perDay, scored, thresholdBy } from "./words.js";

const REST_MS = 120;
const LISTED = 40;
const NEEDED = 10000;

/**
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {(threshold: number|null) => void} tried A threshold that is looked at and not set.
 * @param {() => void} set Called when another one holds.
 * @returns {{element: HTMLElement, threshold: () => number|null}}
 */
export function trial(name, signal, tried, set) {
  const alarm = () => /** @type {import("./types.js").Camera} */ (store.cameras.get(name)).alarm;
  const first = alarm();
  const slider = h("input", { type: "range", id: "threshold", min: "0.01", max: "0.99", step: "0.01", value: first.threshold });
  const value = h("output", { for: "threshold", class: "trial-value" });
  const duration = h("input", { type: "number", id: "min-duration", min: "0", max: "3600", step: "1", value: first.min_duration, inputmode: "decimal" });
  const cooldown = h("input", { type: "number", id: "cooldown", min: "0", max: "86400", step: "1", value: first.cooldown, inputmode: "decimal" });
  const budget = h("input", { type: "number", id: "budget", min: "0.1", max: "1000", step: "0.1", value: first.budget_per_day ?? 2, inputmode: "decimal" });
  const holds = h("p", { class: "muted" });
  const headline = h("div", { "aria-live": "polite" });
  const lists = h("div", { class: "stack" });
  const result = h("div", { class: "trial-result" }, headline, lists);
  const problem = h("div", {});
  const budgetWords = h("p", { class: "small" });
  let byBudget = first.budget_per_day !== null;
  const choice = (/** @type {boolean} */ which, /** @type {string} */ text) => {
    const made = h("button", { type: "button", class: "choice" }, text);
    made.addEventListener("click", () => {
      byBudget = which;
      show();
      ask();
    });
    return made;
  };
  const choices = [choice(false, "Threshold"), choice(true, "Budget a day")];
  const thresholdBox = h("div", { class: "stack" }, h("div", { class: "slider" }, h("label", { for: "threshold" }, "Threshold"), value, slider));
  const budgetBox = h("div", { class: "stack" }, h("div", { class: "fields" }, h("label", { for: "budget" }, "False alarms a day"), budget), budgetWords);
  const wanted = () => ({ ...(byBudget ? { budget_per_day: Number(budget.value) } : { threshold: Number(slider.value) }), min_duration: Number(duration.value), cooldown: Number(cooldown.value) });
  const same = () => {
    const holding = alarm();
    return (byBudget ? holding.budget_per_day === Number(budget.value) : holding.budget_per_day === null && Math.abs(holding.threshold - Number(slider.value)) < 0.0051) &&
      holding.min_duration === Number(duration.value) && holding.cooldown === Number(cooldown.value);
  };

  const show = () => {
    const holding = alarm();
    choices.forEach((one, at) => attribute(one, "aria-pressed", String(byBudget === Boolean(at))));
    thresholdBox.hidden = byBudget;
    budgetBox.hidden = !byBudget;
    say(value, scored(Number(slider.value)));
    attribute(slider, "aria-valuetext", `${scored(Number(slider.value))}, now ${scored(holding.threshold)}`);
    slider.style.setProperty("--now", String((holding.threshold - 0.01) / 0.98));
    say(holds, `Now ${scored(holding.threshold)}, ${thresholdBy(holding)}${holding.min_duration ? `, at least ${holding.min_duration} s` : ""}${holding.cooldown ? `, then ${holding.cooldown} s of rest` : ""}.`);
    say(budgetWords, budgetText(name, holding));
    const nothing = same() ? "This is what holds now." : null;
    refuse(apply, cannotAct() ?? nothing);
    refuse(back, cannotAct());
    back.hidden = holding.by !== "page" && holding.by !== "budget";
    tried(byBudget || same() ? null : Number(slider.value));
  };
  const send = async (/** @type {"PUT"|"DELETE"} */ method, /** @type {string} */ words) => {
    try {
      const now = await change(method, path("cameras", name, "alarm"), method === "PUT" ? wanted() : undefined);
      takeCamera({ .../** @type {any} */ (store.cameras.get(name)), alarm: now });
      if (method === "DELETE") reset();
      put(problem);
      told(words);
      set();
      show();
      ask();
    } catch (error) {
      put(problem, failure(error));
    }
  };
  const reset = () => {
    const holding = alarm();
    [slider.value, duration.value, cooldown.value] = [holding.threshold, holding.min_duration, holding.cooldown].map(String);
    byBudget = holding.budget_per_day !== null;
  };
  const apply = button("Set it", () => send("PUT", "Set."), { kind: "primary" });
  const back = button("Back to the configuration", () => send("DELETE", "The configuration holds again."), { icon: "undo", kind: "quiet" });

  let timer = 0;
  let running = new AbortController();
  const ask = () => {
    clearTimeout(timer);
    result.hidden = byBudget;
    if (byBudget) return;
    timer = setTimeout(async () => {
      running.abort();
      running = new AbortController();
      const mine = running;
      try {
        const query = { threshold: slider.value, min_duration: duration.value, cooldown: cooldown.value, days: store.run?.days_of_scores ?? 7 };
        const found = await get(withQuery(path("cameras", name, "alarm", "try"), query), AbortSignal.any([signal, mine.signal]));
        put(headline, outcome(found, Number(slider.value), same()));
        put(lists, !same() && [stretches("These would be gone", found.gone, true), stretches("These would be new", found.new, false)]);
      } catch (error) {
        if (!signal.aborted && !mine.signal.aborted) put(headline, failure(error, ask));
      }
    }, REST_MS);
  };
  for (const input of [slider, duration, cooldown, budget]) {
    input.addEventListener("input", () => {
      show();
      ask();
    });
  }
  on("camera", (camera) => camera.name === name && show(), signal);
  show();
  ask();
  return {
    threshold: () => (byBudget || same() ? null : Number(slider.value)),
    element: h("section", { class: "card trial", "aria-labelledby": "when" },
      h("div", { class: "card-head" }, h("h2", { id: "when" }, "When it alarms"), h("div", { class: "choices", role: "group", "aria-label": "By" }, choices)),
      holds, thresholdBox, budgetBox,
      h("div", { class: "pair" }, h("label", { for: "min-duration" }, "Lasts at least, seconds"), h("label", { for: "cooldown" }, "Then rests for, seconds"), duration, cooldown),
      result, problem, h("div", { class: "buttons" }, apply, back),
      cannotAct() && h("p", { class: "muted small" }, cannotAct())),
  };
}

/** @param {string} name @param {import("./types.js").Alarm} alarm */
function budgetText(name, alarm) {
  const line = lineOf(name);
  const step = line.length > 2 ? (line[line.length - 1][0] - line[0][0]) / (line.length - 1) : 0;
  const long = step && alarm.missing_segments ? `, about ${about(alarm.missing_segments * step)} of watching` : "";
  if (alarm.budget_per_day === null) return `A budget needs ${NEEDED.toLocaleString("en-GB")} quiet segments of this camera before it holds. Until then the threshold does.`;
  if (alarm.missing_segments) return `Not in force yet: ${counted(alarm.missing_segments, "quiet segment")} of ${NEEDED.toLocaleString("en-GB")} still missing${long}. Until then the threshold ${scored(alarm.threshold)} holds.`;
  return `In force: the threshold follows what is quiet here, now ${scored(alarm.threshold)}.`;
}

/** @param {import("./types.js").Trial} found @param {number} threshold @param {boolean} same */
function outcome(found, threshold, same) {
  const days = found.days >= 1.5 ? `${perDay(found.days)} days` : about(found.days * 86400);
  // Of a few hours nothing can be said a day.
  const [now, then] = [found.now, found.then].map((one) => (found.days < 1 ? one.alarms : perDay(one.per_day)));
  const unit = found.days < 1 ? "alarms" : "alarms a day";
  if (found.days * 86400 < 60) return h("p", { class: "muted" }, "No scores are remembered yet. Come back in some minutes to try a threshold against them.");
  if (same) return h("p", { class: "big" }, `${now} ${unit}`, h("small", {}, `in the last ${days}${found.days < 1 ? "" : `, ${counted(found.now.alarms, "alarm")} in all`}. Move the slider to try another threshold.`));
  return h("p", { class: "big" }, `At ${scored(threshold)}: ${then} ${unit} instead of ${now}`, h("small", {}, `by the scores of the last ${days}${found.days < 1 ? "" : `: ${found.then.alarms} instead of ${found.now.alarms}`}`));
}

/** The event that was told of an alarm, as far as it is known here. @param {import("./types.js").Stretch} one */
function toldOf(one) {
  const there = [...store.recent.values()].find((event) => event.camera === one.camera && event.start < one.end && event.end > one.start);
  return there?.id ?? null;
}

/**
 * A list of alarms that would be gone or new.
 *
 * @param {string} heading @param {import("./types.js").Stretch[]} all @param {boolean} open
 */
export function stretches(heading, all, open) {
  if (!all.length) return null;
  const line = (/** @type {import("./types.js").Stretch} */ one) => {
    const words = [one.camera && h("b", {}, one.camera), h("span", {}, dayAndClock(one.start)), h("span", { class: "peak-small" }, scored(one.peak))];
    const event = one.event ?? toldOf(one);
    return h("li", {}, event ? link(route("event", event), {}, words) : h("span", {}, words));
  };
  return h("details", { class: "fold", open: open && all.length <= 12 }, h("summary", {}, `${heading}: ${all.length === 200 ? "200 or more" : all.length}`),
    h("ul", { class: "stretches" }, all.slice(0, LISTED).map(line)), all.length > LISTED && h("p", { class: "muted small" }, `and ${all.length - LISTED} more`));
}
