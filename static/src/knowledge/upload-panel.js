/** The panel that shows uploads: the whole progress, what is being sent, and what failed. */
import { h } from "../lib/dom.js";
import { bytes, fill, gettext, ngettext, number, percent } from "../lib/i18n.js";
import { button } from "./words.js";

/** Files that are listed by name. */
const LISTED = 50;

export class UploadPanel {
  #heading = h("h2", { id: "uploads-title" });
  #bar = h("progress", { max: 1, value: 0, "aria-labelledby": "uploads-title" });
  #text = h("p", { className: "quiet" });
  #failed = h("ul", { className: "upload-problems" });
  #retry = button("again", gettext("Retry"), () => this.uploads.retry());
  #cancel = button("close", gettext("Cancel uploads"), () => this.uploads.cancel());
  #close = button("check", gettext("Dismiss"), () => this.uploads.clear());
  #drawn = false;
  #wasBusy = false;

  /**
   * @param {import("./uploads.js").Uploads} uploads
   * @param {(text: string) => void} say to screen readers
   */
  constructor(uploads, say) {
    this.uploads = uploads;
    this.say = say;
    this.element = h(
      "section",
      { className: "upload-panel", "aria-labelledby": "uploads-title", hidden: true },
      this.#heading,
      this.#bar,
      this.#text,
      this.#failed,
      h("div", { className: "upload-actions" }, this.#retry, this.#cancel, this.#close),
    );
    uploads.addEventListener("change", () => this.#later());
    // A page that is left would end the uploads.
    addEventListener("beforeunload", (event) => {
      if (uploads.busy) {
        event.preventDefault();
      }
    });
  }

  /** Draw once per frame, however many pieces arrive. */
  #later() {
    if (!this.#drawn) {
      this.#drawn = true;
      requestAnimationFrame(() => {
        this.#drawn = false;
        this.#draw();
      });
    }
  }

  #draw() {
    const { items, busy } = this.uploads;
    this.element.hidden = items.length === 0;
    const count = items.length;
    const of = (/** @type {string[]} */ ...states) =>
      items.filter(({ state }) => states.includes(state));
    const ended = of("done", "unchanged", "failed").length;
    const [unchanged, failed] = [of("unchanged").length, of("failed")];
    const total = items.reduce((sum, { file }) => sum + file.size, 0);
    const sent = items.reduce(
      (sum, { file, sent: own, state }) => sum + (state === "failed" ? file.size : own),
      0,
    );
    const values = { done: number(ended), count: number(count) };
    this.#heading.textContent = busy
      ? fill(ngettext("Uploading {count} file", "Uploading {done} of {count} files", count), values)
      : heading(count - failed.length - unchanged, unchanged, failed.length);
    this.#bar.hidden = !busy;
    this.#bar.value = total > 0 ? sent / total : ended / Math.max(1, count);
    const current = of("uploading", "checking")[0];
    this.#text.hidden = !busy;
    this.#text.textContent = [
      fill(gettext("{sent} of {total}"), { sent: bytes(sent), total: bytes(total) }),
      percent(this.#bar.value),
      current?.path ?? "",
    ]
      .filter(Boolean)
      .join(" · ");
    this.#failed.hidden = failed.length === 0;
    this.#failed.replaceChildren(
      ...failed
        .slice(0, LISTED)
        .map(({ path, problem }) =>
          h("li", {}, h("strong", { dir: "auto" }, path), h("span", {}, problem)),
        ),
      ...(failed.length > LISTED
        ? [
            h(
              "li",
              {},
              fill(gettext("and {count} more"), { count: number(failed.length - LISTED) }),
            ),
          ]
        : []),
    );
    this.#retry.hidden = busy || !failed.some(({ permanent }) => !permanent);
    this.#cancel.hidden = !busy;
    this.#close.hidden = busy;
    if (this.#wasBusy && !busy && count > 0) {
      this.say(this.#heading.textContent);
    }
    this.#wasBusy = busy;
  }
}

/**
 * @param {number} uploaded
 * @param {number} unchanged
 * @param {number} failed
 */
function heading(uploaded, unchanged, failed) {
  const counted = (/** @type {string} */ text, /** @type {number} */ count) =>
    count > 0 ? [fill(text, { count: number(count) })] : [];
  return [
    ...counted(ngettext("{count} file uploaded", "{count} files uploaded", uploaded), uploaded),
    ...counted(gettext("{count} unchanged, skipped"), unchanged),
    ...counted(gettext("{count} failed"), failed),
  ].join(" · ");
}
