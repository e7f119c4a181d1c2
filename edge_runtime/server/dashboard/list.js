// @ts-check
/** A list that grows with its scrolling and holds only the rows that are near the window, however many there are. */
import { attribute, h, put } from "./dom.js";

const BEYOND = 600;

/**
 * @template T
 * @param {AbortSignal} signal
 * @param {{label: string, row: (item: T) => HTMLElement, stops: (item: T) => boolean, height: (item: T) => number,
 *   more: () => Promise<void>, hasMore: () => boolean}} options `stops`: whether the row has a link that keys go to;
 *   `height` in pixels; `more` adds items.
 */
export function longList(signal, { label, row, stops, height, more, hasMore }) {
  /** @type {T[]} */
  let items = [];
  /** @type {number[]} Where each row begins; one more than there are rows. */
  let tops = [0];
  /** @type {Map<number, HTMLElement>} */
  const rows = new Map();
  const box = h("div", { class: "long", role: "list", "aria-label": label });
  const foot = h("div", { class: "long-foot muted", role: "status" });
  let focused = 0;
  let loading = false;
  let asked = false;

  const at = (/** @type {number} */ px) => {
    let [low, high] = [0, items.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (tops[middle] <= px) low = middle;
      else high = middle - 1;
    }
    return Math.max(0, low);
  };
  const render = () => {
    asked = false;
    const top = -box.getBoundingClientRect().top;
    const first = at(top - BEYOND);
    const last = items.length ? at(top + innerHeight + BEYOND) : -1;
    for (const [index, element] of rows) {
      if (index >= first && index <= last) continue;
      // The row one is at stays, or a screen reader would fall out of the list.
      if (element.contains(document.activeElement)) continue;
      element.remove();
      rows.delete(index);
    }
    /** @type {HTMLElement|null} The row after the one that is made: their order is the order of reading. */
    let after = null;
    for (let index = last; index >= first; index--) {
      const there = rows.get(index);
      if (there) {
        after = there;
        continue;
      }
      const made = h("div", { class: "long-row", role: "listitem", "aria-posinset": index + 1, "aria-setsize": hasMore() ? -1 : items.length }, row(items[index]));
      made.style.transform = `translateY(${tops[index]}px)`;
      made.style.height = `${height(items[index])}px`;
      const stop = made.querySelector("a, button");
      if (stop) attribute(stop, "tabindex", index === focused ? "0" : "-1");
      made.dataset.at = String(index);
      rows.set(index, made);
      box.insertBefore(made, after);
      after = made;
    }
    if (hasMore() && !loading && tops[items.length] - top < innerHeight * 2 + BEYOND) grow().catch(() => {});
  };
  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(render);
  };
  const grow = async () => {
    loading = true;
    put(foot, "Loading…");
    try {
      await more();
      put(foot, hasMore() ? "" : items.length > 8 ? "That is all." : "");
    } finally {
      loading = false;
    }
    if (!signal.aborted) ask();
  };
  addEventListener("scroll", ask, { signal, passive: true });
  addEventListener("resize", ask, { signal });
  box.addEventListener("focusin", (event) => {
    const index = Number(/** @type {HTMLElement|null} */ (/** @type {Element} */ (event.target).closest(".long-row"))?.dataset.at);
    if (Number.isNaN(index) || index === focused) return;
    const before = rows.get(focused)?.querySelector("a, button");
    if (before) attribute(before, "tabindex", "-1");
    focused = index;
    const here = rows.get(index)?.querySelector("a, button");
    if (here) attribute(here, "tabindex", "0");
  }, { signal });

  /** Go to a row by a step, over rows without anything to go to. @param {number} step @param {number} [from] */
  const go = (step, from = focused) => {
    let next = from;
    do next += Math.sign(step);
    while (next >= 0 && next < items.length && !stops(items[next]));
    if (next < 0 || next >= items.length) return;
    const bounds = box.getBoundingClientRect();
    const top = bounds.top + tops[next];
    const edge = 140;
    if (top < edge || top + height(items[next]) > innerHeight - edge) scrollBy(0, top - innerHeight / 2);
    render();
    /** @type {HTMLElement|null|undefined} */ (rows.get(next)?.querySelector("a, button"))?.focus({ preventScroll: true });
  };
  box.addEventListener("keydown", (event) => {
    const far = { PageDown: 8, PageUp: -8 }[event.key];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key] ?? far;
    if (step === undefined) return;
    event.preventDefault();
    if (far) go(far, Math.min(items.length - 2, Math.max(1, focused + far)));
    else go(step);
  }, { signal });

  return {
    element: h("div", {}, box, foot),
    go,
    /** Show these from now on. @param {T[]} all @param {boolean} [kept] Rows before are the same, and stay. */
    set(all, kept = false) {
      items = all;
      tops = [0];
      for (const item of items) tops.push(tops[tops.length - 1] + height(item));
      box.style.height = `${tops[items.length]}px`;
      if (!kept) {
        for (const element of rows.values()) element.remove();
        rows.clear();
        focused = Math.max(0, items.findIndex(stops));
      }
      render();
    },
    /** Begin with the first page. */
    grow,
    /** Make one row anew. @param {number} index */
    redo(index) {
      const element = rows.get(index);
      const was = element?.contains(document.activeElement);
      element?.remove();
      rows.delete(index);
      render();
      if (was) /** @type {HTMLElement|null|undefined} */ (rows.get(index)?.querySelector("a, button"))?.focus({ preventScroll: true });
    },
  };
}
