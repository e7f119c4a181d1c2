// @ts-check
/**
 * Elements. Names and descriptions come from cameras and people: whatever is text becomes a text node, never markup.
 */
import { PATHS } from "./icons.js";

/** @typedef {Node|string|number|null|undefined|false|Child[]} Child */

/**
 * One element with its attributes and children.
 *
 * @param {string} tag
 * @param {Object<string, any>} [props] Attributes; `on` are listeners, `css` custom properties. `true` is an attribute
 *   without a value, `false`, null and undefined are none.
 * @param {...Child} children
 * @returns {any} The element, of whatever class its tag has.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === "css") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else attribute(element, name, value);
  }
  fill(element, children);
  return element;
}

/** Set, or take away where it is false, null or undefined. @param {Element} element @param {string} name @param {any} value */
export function attribute(element, name, value) {
  if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value === true ? "" : value)) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** @param {Element} element @param {Child[]} children */
function fill(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) fill(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(/** @type {any} */ (child));
  }
}

/** Put these children in place of all others. @param {Element} element @param {...Child} children */
export function put(element, ...children) {
  element.replaceChildren();
  fill(element, children);
  return element;
}

/** Change a text only where it differs, so that a screen reader is left alone. @param {Element} element @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A drawing of our own, for the eye alone. @param {string} name One of icons.js. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}

/**
 * A button. With `reason`, it cannot be used now and says why, to the eye and to a screen reader alike.
 *
 * @param {string} text
 * @param {(event: Event) => void} act
 * @param {{icon?: string, kind?: string, key?: string, reason?: string|null, label?: string, type?: string}} [options]
 */
export function button(text, act, options = {}) {
  const { kind = "", key, reason = null, label, type = "button" } = options;
  const made = h(
    "button",
    { type, class: `button ${kind}`, "aria-keyshortcuts": key, "aria-label": label, title: label },
    options.icon && icon(options.icon),
    text && h("span", {}, text),
    key && h("kbd", { "aria-hidden": "true" }, key),
  );
  made.addEventListener("click", (/** @type {Event} */ event) => {
    if (made.getAttribute("aria-disabled") !== "true") act(event);
  });
  refuse(made, reason);
  return made;
}

/** Say why a button does nothing, or let it work again. @param {HTMLElement} made @param {string|null} reason */
export function refuse(made, reason) {
  attribute(made, "aria-disabled", reason ? "true" : null);
  attribute(made, "aria-description", reason);
  attribute(made, "title", reason ?? made.getAttribute("aria-label"));
}

/** A link inside the page. @param {string} href @param {Object<string, any>} props @param {...Child} children */
export function link(href, props, ...children) {
  return h("a", { href, ...props }, ...children);
}

/** `#/camera/<name>`, whatever the name holds. @param {string} kind @param {...string} parts */
export function route(kind, ...parts) {
  return `#/${[kind, ...parts].map(encodeURIComponent).join("/")}`;
}

/**
 * One tab stop for a whole grid or list; arrows, Home and End move inside it.
 *
 * @param {HTMLElement} box
 * @param {string} selector What can be gone to.
 * @param {AbortSignal} signal
 * @param {{vertical?: boolean}} [options] With `vertical` left and right are left alone.
 * @returns {() => void} To call after the children have changed.
 */
export function roving(box, selector, signal, options = {}) {
  /** @type {Element|null} */
  let current = null;
  const all = () => /** @type {HTMLElement[]} */ ([...box.querySelectorAll(selector)]);
  const settle = () => {
    const stops = all();
    if (!current || !stops.includes(/** @type {HTMLElement} */ (current))) current = stops[0] ?? null;
    for (const stop of stops) attribute(stop, "tabindex", stop === current ? "0" : "-1");
  };
  box.addEventListener(
    "focusin",
    (event) => {
      const stop = /** @type {Element} */ (event.target).closest(selector);
      if (stop && stop !== current) {
        current = stop;
        settle();
      }
    },
    { signal },
  );
  box.addEventListener(
    "keydown",
    (event) => {
      const target = /** @type {Element} */ (event.target);
      if (!target.matches(selector) || event.altKey || event.ctrlKey || event.metaKey) return;
      const next = neighbour(all(), /** @type {HTMLElement} */ (target), event.key, options.vertical ?? false);
      if (!next) return;
      event.preventDefault();
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    },
    { signal },
  );
  settle();
  return settle;
}

/** Up and down go by where things are, so that a grid may have any number of columns.
 * @param {HTMLElement[]} stops @param {HTMLElement} from @param {string} key @param {boolean} vertical */
function neighbour(stops, from, key, vertical) {
  const at = stops.indexOf(from);
  if (key === "Home") return stops[0];
  if (key === "End") return stops[stops.length - 1];
  if (!vertical && key === "ArrowRight") return stops[at + 1];
  if (!vertical && key === "ArrowLeft") return stops[at - 1];
  if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
  const down = key === "ArrowDown";
  const own = from.getBoundingClientRect();
  const middle = own.left + own.width / 2;
  let best, distance = Infinity;
  for (const stop of stops) {
    const box = stop.getBoundingClientRect();
    const dy = down ? box.top - own.top : own.top - box.top;
    if (dy < 2) continue;
    const apart = dy * 1000 + Math.abs(box.left + box.width / 2 - middle);
    if (apart < distance) [best, distance] = [stop, apart];
  }
  return best;
}
