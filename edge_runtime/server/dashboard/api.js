// @ts-check
/** Asks the edge. Every failure is an ApiError with a sentence that can be shown. */

/** What went wrong, in words. `status` is 0 where nobody answered. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message @param {number} retryAfter Seconds. */
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** @type {() => void} */
let onUnauthorized = () => {};

/** @param {() => void} act Called when a token is needed, or not accepted any more. */
export function whenUnauthorized(act) {
  onUnauthorized = act;
}

/** A path of the API; parts are encoded, so that a name cannot leave its place. @param {...string} parts */
export const path = (...parts) => `api/${parts.map(encodeURIComponent).join("/")}`;

/** A path with a query; null and "" are left out. @param {string} base @param {Object<string, any>} query */
export function withQuery(base, query) {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") words.set(key, String(value));
  }
  const text = words.toString();
  return text ? `${base}?${text}` : base;
}

/**
 * @param {string} method
 * @param {string} url
 * @param {{body?: any, signal?: AbortSignal, timeout?: number}} [options] `timeout` in milliseconds.
 * @returns {Promise<Response>}
 */
export async function ask(method, url, { body, signal, timeout = 15000 } = {}) {
  const limit = AbortSignal.timeout(timeout);
  let response;
  try {
    response = await fetch(url, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The edge does not answer.");
  }
  if (response.ok) return response;
  if (response.status === 401 && url !== "api/session") onUnauthorized();
  let message = `The edge answered ${response.status}.`;
  try {
    const told = await response.json();
    if (typeof told.error === "string" && told.error) message = told.error[0].toUpperCase() + told.error.slice(1);
  } catch {
    // An answer without a sentence of its own, of a proxy perhaps.
  }
  throw new ApiError(response.status, message, Number(response.headers.get("Retry-After")) || 0);
}

/** @param {string} url @param {AbortSignal} [signal] @returns {Promise<any>} */
export const get = async (url, signal) => (await ask("GET", url, { signal })).json();

/** Change something; answers without content give null. @param {"POST"|"PUT"|"DELETE"} method @param {string} url @param {any} [body]
 * @returns {Promise<any>} */
export async function change(method, url, body) {
  const response = await ask(method, url, { body, timeout: 60000 });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}
