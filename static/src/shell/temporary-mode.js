/** What makes a temporary chat unmistakable: its switch, the mark of the page, what is kept. */
import { byId, h, show } from "../lib/dom.js";
import { fill, gettext, ngettext } from "../lib/i18n.js";

/** @typedef {import("../lib/wire").BootPrivacy} BootPrivacy */

/** Texts of the notice: what happens to a temporary chat. @param {BootPrivacy} privacy */
export function promises({ temporary_minutes: minutes, temporary }) {
  const kept = ngettext(
    "The server deletes its text within {minutes} minute of each answer.",
    "The server deletes its text within {minutes} minutes of each answer.",
    minutes,
  );
  return [
    temporary === "forced"
      ? gettext("This site does not save chats. This chat stays in this tab only.")
      : gettext("This chat is not saved. It stays in this tab only."),
    fill(kept, { minutes }),
    gettext("Token counts and times are kept for statistics and quotas, without text."),
  ];
}

export class TemporaryMode {
  #switch = byId("temporary-switch");
  #badge = byId("temporary-badge");
  #note = byId("temporary-note");
  #fine = byId("fine");
  #readOnly = byId("not-saved");
  #unsaved = h(
    "strong",
    { hidden: true },
    gettext("This chat is too long to survive a reload of this page."),
  );

  /**
   * @param {BootPrivacy} privacy
   * @param {(on: boolean) => void} onSwitch
   */
  constructor(privacy, onSwitch) {
    this.privacy = privacy;
    this.#switch.addEventListener("click", () =>
      onSwitch(this.#switch.getAttribute("aria-pressed") !== "true"),
    );
    const lines = promises(privacy).map((text) => h("span", {}, text, " "));
    this.#note.replaceChildren(...lines, this.#unsaved);
  }

  /** Whether new chats are temporary. */
  get forced() {
    return this.privacy.temporary === "forced";
  }

  /** Whether the user may start temporary chats. */
  get available() {
    return this.privacy.temporary !== "forbidden";
  }

  /** Whether the address is that of the temporary chat. @param {string} path without prefix */
  addressed(path) {
    const asked = new URLSearchParams(location.search).has("temporary");
    return path === "/" && this.available && (this.forced || asked);
  }

  get address() {
    return this.forced ? "/" : "/?temporary";
  }

  /**
   * @param {object} shown
   * @param {boolean} shown.on whether a temporary chat is shown
   * @param {boolean} shown.begun whether the shown chat has messages
   * @param {boolean} shown.unsaved whether a reload would lose it
   */
  show({ on, begun, unsaved }) {
    document.body.classList.toggle("temporary", on);
    show(this.#switch, this.available && !this.forced && !begun);
    this.#switch.setAttribute("aria-pressed", String(on));
    // An empty chat shows the switch, which says the same.
    show(this.#badge, on && (begun || this.forced));
    show(this.#note, on);
    show(this.#fine, !on);
    show(this.#unsaved, unsaved);
    show(this.#readOnly, this.forced && begun && !on);
    const box = byId("message");
    box.placeholder = on ? gettext("Ask anything. Not saved.") : gettext("Ask anything");
  }
}
