/** The administration's socket: each message is the whole state, so none has to be kept. */
import { backOff } from "../connection.js";
import { gettext } from "../i18n.js";

const SIGNED_OUT = 4401;

export class Follower {
  #attempt = 0;

  /**
   * @param {HTMLElement | null} notice says when the page shows old figures
   * @param {(now: any) => void} show
   */
  constructor(notice, show) {
    this.notice = notice;
    this.show = show;
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/admin/`);
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
 * Asks for something by a button. Rejects with what the server says against it.
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
    throw new Error(answer.error?.message ?? gettext("The server did not answer. Try again."));
  }
  return answer;
}
