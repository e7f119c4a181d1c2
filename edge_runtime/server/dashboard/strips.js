// @ts-check
/** The last 24 hours, a row for every camera that had alarms and a cell for every hour: each can be gone to. */
import { attribute, h, put, roving } from "./dom.js";
import { store } from "./store.js";
import { counted, isoDay, now, scored } from "./words.js";

const HOUR = 3600000;

/**
 * @param {AbortSignal} signal
 * @param {(camera: string, day: string, hour: string) => void} go Called with what a cell or a name stands for; `hour`
 *   is the first hour and how many, `14-1`.
 * @returns {{element: HTMLElement, show: () => void}}
 */
export function strips(signal, go) {
  const grid = h("div", { class: "strips" });
  const quiet = h("p", { class: "muted small" });
  const settle = roving(grid, "button", signal);
  let shown = "";
  const show = () => {
    const width = matchMedia("(max-width: 640px)").matches ? 3 : 1;
    const end = new Date(now());
    end.setMinutes(60, 0, 0);
    const hours = 24 / width;
    const first = end.getTime() - 24 * HOUR;
    /** @type {Map<string, {count: number, peak: number}[]>} */
    const byCamera = new Map();
    for (const { camera, start, peak } of store.recent.values()) {
      const at = Math.floor((Date.parse(start) - first) / (width * HOUR));
      if (at < 0 || at >= hours) continue;
      if (!byCamera.has(camera)) byCamera.set(camera, Array.from({ length: hours }, () => ({ count: 0, peak: 0 })));
      const cell = /** @type {{count: number, peak: number}[]} */ (byCamera.get(camera))[at];
      cell.count++;
      cell.peak = Math.max(cell.peak, peak);
    }
    const key = JSON.stringify([first, width, ...byCamera]);
    if (key === shown) return;
    shown = key;
    const names = [...byCamera.keys()].sort((a, b) => total(b) - total(a) || a.localeCompare(b));
    function total(/** @type {string} */ name) {
      return (byCamera.get(name) ?? []).reduce((sum, cell) => sum + cell.count, 0);
    }
    attribute(grid, "data-cells", hours);
    put(
      grid,
      names.length > 0 && h("div", { class: "strip hours", "aria-hidden": "true" }, h("span", {}),
        Array.from({ length: hours }, (_, at) => h("span", {}, at % (width === 1 ? 3 : 2) ? "" : String(new Date(first + at * width * HOUR).getHours()).padStart(2, "0")))),
      names.map((name) => h("div", { class: "strip", role: "group", "aria-label": name },
        h("button", { type: "button", class: "strip-name", on: { click: () => go(name, "", "") }, "aria-label": `${name}: ${counted(total(name), "alarm")} in 24 hours` }, h("span", {}, name), h("b", {}, total(name))),
        (byCamera.get(name) ?? []).map((cell, at) => {
          const begin = new Date(first + at * width * HOUR);
          const words = `${String(begin.getHours()).padStart(2, "0")}:00 to ${String((begin.getHours() + width) % 24).padStart(2, "0")}:00`;
          if (!cell.count) return h("span", { class: "cell" });
          const label = `${name}, ${words}: ${counted(cell.count, "alarm")}, peak ${scored(cell.peak)}`;
          return h("button", { type: "button", class: "cell", "data-level": Math.min(4, Math.ceil(Math.sqrt(cell.count))), title: label, "aria-label": label, on: { click: () => go(name, isoDay(begin), `${begin.getHours()}-${width}`) } },
            h("i", {}, cell.count > 99 ? "99" : cell.count));
        }))),
    );
    const without = [...store.cameras.keys()].filter((name) => !byCamera.has(name));
    const few = without.slice(0, 12).join(", ");
    quiet.textContent = without.length ? `No alarm in 24 hours: ${few}${without.length > 12 ? ` and ${without.length - 12} more` : ""}.` : "";
    settle();
  };
  return { element: h("div", {}, grid, quiet), show };
}
