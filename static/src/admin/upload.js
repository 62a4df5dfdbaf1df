/** Resumable upload of a file in sequential chunks. */
import { byId } from "../lib/dom.js";
import { bytes, fill, gettext, percent } from "../lib/i18n.js";
import { recall, remember } from "../lib/storage.js";
import { at } from "../lib/urls.js";

const RETRY_MS = 2000;
const RETRIES = 30;

export class Upload {
  /**
   * @param {HTMLFormElement} form
   * @param {{csrf: string, piece: number}} data
   */
  constructor(form, data) {
    this.form = form;
    this.data = data;
    this.bar = byId("upload-bar");
    this.state = byId("upload-state");
    this.button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send();
    });
  }

  async #send() {
    const fields = new FormData(this.form);
    const file = /** @type {File} */ (fields.get("file"));
    this.button.disabled = true;
    this.bar.hidden = false;
    try {
      const id = await this.#pieces(file);
      this.state.textContent = gettext("Upload complete. Installing…");
      await this.#ask(
        `${id}/install/`,
        new URLSearchParams({
          name: String(fields.get("name")),
          available: String(fields.get("available") ?? ""),
        }),
      );
      remember(key(file), null);
      location.assign(at("/admin/jobs/"));
    } catch (error) {
      this.state.textContent = error instanceof Error ? error.message : String(error);
      this.button.disabled = false;
    }
  }

  /**
   * @param {File} file
   * @returns {Promise<string>} the upload's id, once it is complete
   */
  async #pieces(file) {
    let { id, arrived } = await this.#begin(file);
    let failures = 0;
    while (arrived < file.size) {
      this.bar.value = arrived / file.size;
      this.state.textContent = fill(gettext("{share} of {total}"), {
        share: percent(arrived / file.size),
        total: bytes(file.size),
      });
      try {
        const piece = file.slice(arrived, arrived + this.data.piece);
        ({ arrived } = await this.#ask(`${id}/?offset=${arrived}`, piece));
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures > RETRIES || (error instanceof Refused && !error.stale)) {
          throw error;
        }
        this.state.textContent = gettext("Connection lost. Retrying…");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        arrived = (await this.#ask(`${id}/`).catch(() => ({ arrived }))).arrived;
      }
    }
    this.bar.value = 1;
    return id;
  }

  /**
   * Resume an upload of the same file, or start one.
   * @param {File} file
   * @returns {Promise<{id: string, arrived: number}>}
   */
  async #begin(file) {
    const id = recall(key(file));
    if (id) {
      try {
        return { id, ...(await this.#ask(`${id}/`)) };
      } catch {
        remember(key(file), null); // it was cleaned up
      }
    }
    const begun = await this.#ask("", JSON.stringify({ name: file.name, size: file.size }));
    remember(key(file), begun.id);
    return begun;
  }

  /**
   * @param {string} path
   * @param {BodyInit} [body] none to request the offset only
   */
  async #ask(path, body) {
    const response = await fetch(at(`/admin/uploads/${path}`), {
      method: body === undefined ? "GET" : "POST",
      headers: { "X-CSRFToken": this.data.csrf },
      body,
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new Refused(answer.error ?? {}, response.status);
    }
    return answer;
  }
}

class Refused extends Error {
  /**
   * @param {{code?: string, message?: string}} error
   * @param {number} status
   */
  constructor(error, status) {
    super(error.message ?? gettext("The server did not respond. Try again."));
    // The server has another offset than this page, or was unreachable.
    this.stale = error.code ? error.code === "upload_refused" : status >= 500;
  }
}

/** @param {File} file */
function key(file) {
  return `upload:${file.name}:${file.size}:${file.lastModified}`;
}
