/** The administration's socket. Each message is a full snapshot, so none has to be kept. */
import { backOff } from "../server/connection.js";
import { gettext } from "../lib/i18n.js";
import { socketAt } from "../lib/urls.js";

const SIGNED_OUT = 4401;

export class SnapshotSocket {
  #attempt = 0;

  /**
   * @param {HTMLElement | null} notice shown while the figures are outdated
   * @param {(now: import("../lib/wire").Snapshot) => void} show
   */
  constructor(notice, show) {
    this.notice = notice;
    this.show = show;
  }

  open() {
    const socket = new WebSocket(socketAt("/ws/admin/"));
    socket.addEventListener("message", (event) => {
      this.#attempt = 0;
      this.#say("");
      this.show(JSON.parse(event.data));
    });
    socket.addEventListener("close", (event) => {
      if (event.code === SIGNED_OUT) {
        location.reload();
        return;
      }
      this.#say(gettext("Reconnecting…"));
      this.#attempt += 1;
      setTimeout(() => this.open(), backOff(this.#attempt, Math.random()));
    });
  }

  /** @param {string} text */
  #say(text) {
    if (this.notice && this.notice.textContent !== text) {
      this.notice.textContent = text;
    }
  }
}

/**
 * Post a form. Rejects with the server's error message.
 * @param {string} path
 * @param {string} csrf
 * @param {Record<string, string>} [values]
 */
export async function post(path, csrf, values = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "X-CSRFToken": csrf },
    body: new URLSearchParams(values),
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(answer.error?.message ?? gettext("The server did not respond. Try again."));
  }
  return answer;
}
