// @ts-check
/** Shortcuts of single keys, which can be turned off, and the sheet that lists them with the page's settings. */
import { button, h } from "./dom.js";

/** @typedef {{keys: string, does: string, act: (event: KeyboardEvent) => void}} Shortcut */

/** @type {Set<Shortcut>} */
const known = new Set();
let prefix = "";
let prefixTimer = 0;

/** @param {string} name @param {string} fallback */
export function setting(name, fallback) {
  try {
    return localStorage.getItem(`hh.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  try {
    localStorage.setItem(`hh.${name}`, value);
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
}

/**
 * @param {string} keys One key, or two after each other: `g w`.
 * @param {string} does For the sheet.
 * @param {(event: KeyboardEvent) => void} act
 * @param {AbortSignal} [signal]
 */
export function shortcut(keys, does, act, signal) {
  const made = { keys, does, act };
  known.add(made);
  signal?.addEventListener("abort", () => known.delete(made));
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || setting("keys", "on") === "off") return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("input, textarea, select, dialog, video, [data-keys=own]")) return;
  const pressed = prefix ? `${prefix} ${event.key}` : event.key;
  prefix = "";
  clearTimeout(prefixTimer);
  const all = [...known].reverse();
  const hit = all.find((one) => one.keys === pressed);
  if (hit) {
    event.preventDefault();
    hit.act(event);
  } else if (all.some((one) => one.keys.startsWith(`${pressed} `))) {
    prefix = pressed;
    prefixTimer = setTimeout(() => (prefix = ""), 1500);
  }
});

/** Colours as the system has them, or always dark or light. */
export function applyTheme() {
  const theme = setting("theme", "auto");
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
  dispatchEvent(new Event("hh-theme"));
}

/** Show the sheet. */
export function help() {
  const rows = [...known].map((one) =>
    h("div", { class: "key-row" }, h("dt", {}, one.keys.split(" ").map((key) => h("kbd", {}, NAMES[key] ?? key))), h("dd", {}, one.does)),
  );
  const theme = h(
    "select",
    { id: "theme", on: { change: () => (keep("theme", theme.value), applyTheme()) } },
    ["auto", "dark", "light"].map((name) =>
      h("option", { value: name, selected: setting("theme", "auto") === name }, { auto: "As the system", dark: "Dark", light: "Light" }[name]),
    ),
  );
  const single = h("input", { type: "checkbox", id: "single", checked: setting("keys", "on") === "on" });
  single.addEventListener("change", () => keep("keys", single.checked ? "on" : "off"));
  sheet(
    "Keys and settings",
    h("dl", { class: "keys" }, rows),
    h("p", { class: "muted small" }, "Arrow keys move in grids and lists, Enter opens, Escape closes."),
    h("div", { class: "fields" }, h("label", { for: "theme" }, "Colours"), theme),
    h("label", { class: "check" }, single, "Single keys work as shortcuts"),
  );
}

/** @type {Object<string, string>} */
const NAMES = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

/**
 * A sheet over the page, closed by Escape or its button. Gives it, so that it can be closed.
 *
 * @param {string} title @param {...any} children
 */
export function sheet(title, ...children) {
  const close = button("", () => made.close(), { icon: "close", kind: "quiet", label: "Close" });
  const made = h(
    "dialog",
    { class: "sheet", "aria-labelledby": "sheet-title" },
    h("div", { class: "sheet-head" }, h("h2", { id: "sheet-title" }, title), close),
    children,
  );
  made.addEventListener("close", () => made.remove());
  made.addEventListener("click", (/** @type {Event} */ event) => event.target === made && made.close());
  document.body.append(made);
  made.showModal();
  return /** @type {HTMLDialogElement} */ (made);
}
