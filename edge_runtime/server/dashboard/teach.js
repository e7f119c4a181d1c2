// @ts-check
/** Marks, what they would change, and the yes or the step back. */
import { change, get, path } from "./api.js";
import { button, h, link, put, route } from "./dom.js";
import { NO_FEEDBACK } from "./event.js";
import { empty, failure, told } from "./shell.js";
import { cannotAct, store } from "./store.js";
import { stretches } from "./trial.js";
import { counted, dayAndClock, duration, markWords, perDay, sinceWhen } from "./words.js";

/** @typedef {import("./types.js").Mark} Mark */

/** @param {import("./types.js").View} view */
export async function teach({ root, signal }) {
  const intro = h("p", { class: "muted" }, "A false alarm need not come back. Mark it; see here what a scorer that knows your marks would change; agree, or not.");
  if (!store.run?.feedback) {
    put(root, h("h1", {}, "Teach"), empty("teach", "Feedback is off", h("p", {}, NO_FEEDBACK)));
    return;
  }
  const now = h("section", { class: "card", "aria-labelledby": "in-use" });
  const offer = h("section", { class: "card", "aria-labelledby": "would" });
  const marks = h("section", { class: "card", "aria-labelledby": "marks" });
  put(root, h("h1", {}, "Teach"), intro, h("div", { class: "two" }, h("div", { class: "stack" }, offer, now), marks));
  const show = async () => {
    const told = /** @type {import("./types.js").Feedback} */ (await get("api/feedback", signal));
    inUse(now, told, show);
    list(marks, told.marks, show);
    if (!told.marks.length) return put(offer, empty("teach", "Nothing to learn yet", h("p", {}, "Open an event and mark it as a false alarm, or drag over a camera’s line where something was missed. A few marks of the same kind are enough."), link("#/events", { class: "button" }, "To the events")));
    put(offer, h("h2", { id: "would" }, "What would change"), h("p", { class: "muted", role: "status" }, "Working it out…"));
    try {
      propose(offer, await get("api/feedback/proposal", signal), show, told);
    } catch (error) {
      if (!signal.aborted) put(offer, h("h2", { id: "would" }, "What would change"), failure(error, show));
    }
    return undefined;
  };
  await show();
}

/** @param {HTMLElement} box @param {import("./types.js").Proposal} offer @param {() => Promise<any>} again @param {import("./types.js").Feedback} feedback */
function propose(box, offer, again, feedback) {
  const problem = h("div", {});
  const right = (/** @type {number} */ wrong) => Math.max(0, offer.marks - wrong);
  const learned = offer.changes === false || (feedback.scorer?.marks === offer.marks && !offer.gone.length && !offer.new.length);
  const use = button("Use it", async () => {
    try {
      await change("POST", "api/feedback/accept", { proposal: offer.proposal });
      told("The new scorer is in use within seconds.");
      await again();
    } catch (error) {
      put(problem, failure(error, /** @type {any} */ (error).status === 409 ? again : null));
    }
  }, { kind: "primary", reason: cannotAct() ?? (offer.changes === false ? "It is in use already." : null) });
  const days = offer.days >= 1.5 ? `${perDay(offer.days)} days` : duration(offer.days * 86400);
  put(
    box,
    h("h2", { id: "would" }, "What would change"),
    h("p", { class: "big" }, `${counted(offer.gone_in_all ?? offer.gone.length, "alarm")} fewer, ${offer.new_in_all ?? offer.new.length} new`, h("small", {}, `of the last ${days}; ${counted(offer.kept, "alarm stays", "alarms stay")}`)),
    h("p", { class: "muted small" }, "As if the scorer in use, and the new one, had judged all of that time."),
    learned && h("p", {}, "The scorer in use has learned these marks already."),
    offer.marks > 1 ? [
      h("div", { class: "meters" },
        meter("Right about your marks: the bundle’s own scorer", right(offer.wrong_before), offer.marks),
        meter("A new scorer, about marks it had not seen", right(offer.wrong_left_out), offer.marks)),
      h("p", { class: "muted small" }, `Every mark was left out once and judged by a scorer that knew only the others. ${counted(offer.marks, "mark")}, ${counted(offer.false_alarms, "false alarm")} among them.`),
    ] : h("p", { class: "muted small" }, "From one mark it cannot be told how a new scorer judges what it has not seen. A second one of the same kind tells."),
    stretches("These would be gone", offer.gone, true),
    stretches("These would be new", offer.new, true),
    problem,
    h("div", { class: "buttons" }, use),
    cannotAct() && h("p", { class: "muted small" }, cannotAct()),
  );
}

/** @param {string} label @param {number} value @param {number} all */
function meter(label, value, all) {
  return h("label", { class: "meter" }, h("span", {}, label), h("b", {}, `${value} of ${all}`), h("progress", { max: all || 1, value }));
}

/** @param {HTMLElement} box @param {import("./types.js").Feedback} feedback @param {() => Promise<any>} again */
function inUse(box, feedback, again) {
  const { scorer } = feedback;
  const problem = h("div", {});
  const undo = button("One step back", async () => {
    try {
      await change("POST", "api/feedback/undo");
      told("One step back.");
      await again();
    } catch (error) {
      put(problem, failure(error));
    }
  }, { icon: "undo", reason: cannotAct() ?? (feedback.can_undo ? null : "There is nothing to go back to.") });
  put(box, h("h2", { id: "in-use" }, "In use now"),
    h("p", {}, scorer ? `Scorer ${scorer.number} of this site, since ${sinceWhen(scorer.accepted)}, from ${counted(scorer.marks, "mark")}.` : "The bundle’s own scorer."),
    problem, h("div", { class: "buttons" }, undo));
}

/** @param {HTMLElement} box @param {Mark[]} all @param {() => Promise<any>} again */
function list(box, all, again) {
  const problem = h("div", {});
  const row = (/** @type {Mark} */ mark) => {
    const words = [h("b", {}, mark.camera), h("span", {}, dayAndClock(mark.start)), h("span", { class: "muted" }, duration((Date.parse(mark.end) - Date.parse(mark.start)) / 1000))];
    const label = mark.verdict === "missed" && !mark.event ? "Missed" : markWords(mark.verdict);
    return h("li", { class: "mark-row" }, h("span", { class: `mark ${mark.verdict}` }, label),
      mark.event ? link(route("event", mark.event), {}, words) : link(route("camera", mark.camera), {}, words),
      button("", async () => {
        try {
          await change("DELETE", path("feedback", "marks", String(mark.id)));
          told("The mark is taken back.");
          await again();
        } catch (error) {
          put(problem, failure(error));
        }
      }, { icon: "close", kind: "quiet", label: `Take back: ${label}, ${mark.camera}, ${dayAndClock(mark.start)}`, reason: cannotAct() }));
  };
  put(box, h("h2", { id: "marks" }, `Your marks${all.length ? `: ${all.length}` : ""}`), problem,
    all.length ? h("ul", { class: "marks" }, all.map(row)) : h("p", { class: "muted" }, "None yet."));
}
