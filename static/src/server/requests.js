/** JSON requests of the page. Refusals are `CommandError`s, as on the socket. */
import { CommandError, SignedOut, toError } from "./connection.js";
import { withErrorId } from "../lib/error-id.js";
import { gettext } from "../lib/i18n.js";

/**
 * Return the decoded response, null for one without content. Rejects with a `CommandError`.
 * @param {string} method
 * @param {string} url
 * @param {object} options
 * @param {string} options.csrf token
 * @param {object | Blob | string} [options.body] a string is encoded JSON
 * @param {AbortSignal} [options.signal]
 * @returns {Promise<any>}
 */
export async function requestJson(method, url, { csrf, body, signal }) {
  const raw = body instanceof Blob;
  const sent = raw || typeof body !== "object" ? body : JSON.stringify(body);
  const small = typeof sent !== "string" || sent.length < 16_000;
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: {
        Accept: "application/json",
        ...(sent && { "Content-Type": raw ? "application/octet-stream" : "application/json" }),
        ...(method !== "GET" && { "X-CSRFToken": csrf }),
      },
      body: sent,
      credentials: "same-origin",
      // Complete the request even if the page is left. Browsers refuse more than 64 KiB.
      keepalive: method !== "GET" && !raw && small,
      // A redirect leads to the sign-in page, which means that the session has ended.
      redirect: "manual",
      signal,
    });
  } catch {
    signal?.throwIfAborted();
    throw new CommandError(
      "connection_lost",
      gettext("The server can't be reached. Try again in a moment."),
    );
  }
  if (response.status === 204) {
    return null;
  }
  const data = await response.json().catch(() => null);
  if (response.ok && data) {
    return data;
  }
  const id = response.headers.get("X-Request-ID");
  if (data?.error) {
    throw toError(data.error, id);
  }
  if (response.type === "opaqueredirect" || response.status === 401) {
    throw new SignedOut();
  }
  const text = gettext("Something went wrong on the server. Try again in a moment.");
  throw new CommandError("error", withErrorId(text, "error", id));
}
