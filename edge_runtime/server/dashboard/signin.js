// @ts-check
/** Asks for a token. */
import { change } from "./api.js";
import { button, h, icon, put } from "./dom.js";
import { failure, setTitle } from "./shell.js";
import { loadSession } from "./store.js";
import { counted } from "./words.js";

/** @param {import("./types.js").View} view */
export function signin({ root }) {
  setTitle("Sign in");
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "token-help" });
  const problem = h("div", {});
  const send = button("Sign in", () => {}, { kind: "primary", type: "submit" });
  const form = h("form", { class: "card signin" }, icon("key"), h("h1", {}, "Sign in"),
    h("label", { for: "token" }, "Token"), token,
    h("p", { class: "muted small", id: "token-help" }, "Whoever runs the edge makes one there: ", h("code", {}, "hh-edge token add --role act"), ", or ", h("code", {}, "--role read"), " for one that may only look."),
    problem, send);
  form.addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await change("POST", "api/session", { token: token.value.trim() });
      await loadSession();
    } catch (error) {
      const { status, retryAfter } = /** @type {any} */ (error);
      const wait = status === 429 && retryAfter ? ` Try again in ${counted(retryAfter, "second")}.` : "";
      put(problem, failure(new Error(status === 401 ? "This token is not known. Look for a letter too few, or make another one." : /** @type {Error} */ (error).message + wait)));
      token.select();
    }
  });
  put(root, form);
  token.focus();
}
