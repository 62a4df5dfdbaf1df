/** The ID that a user reports with an error, by which an administrator finds it in the log. */
import { fill, gettext } from "./i18n.js";

/** Codes of errors whose reason only the server's log has. */
const SERVER_FAULTS = new Set(["error", "engine_error", "interrupted", "streams_unavailable"]);

/**
 * Return the message with the request's or answer's ID if the server's log explains the error.
 * @param {string} message
 * @param {string | undefined} code
 * @param {string | null | undefined} id
 */
export function withErrorId(message, code, id) {
  return id && code && SERVER_FAULTS.has(code)
    ? fill(gettext("{message} Error ID: {id}"), { message, id })
    : message;
}
