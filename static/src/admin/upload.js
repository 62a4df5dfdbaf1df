/** A file sent in pieces, each behind the one before; what is there already is not sent again. */
import { byId } from "../dom.js";
import { bytes, fill, gettext, percent } from "../i18n.js";
import { recall, remember } from "../storage.js";

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
      this.state.textContent = gettext("All of it is here and is being installed.");
      await this.#ask(`${id}/install/`, new URLSearchParams({ name: String(fields.get("name")) }));
      remember(key(file), null);
      location.assign("/admin/jobs/");
    } catch (error) {
      this.state.textContent = error instanceof Error ? error.message : String(error);
      this.button.disabled = false;
    }
  }

  /**
   * @param {File} file
   * @returns {Promise<string>} the upload's id, once all of it is there
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
        this.state.textContent = gettext("The connection broke. Trying again…");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        arrived = (await this.#ask(`${id}/`).catch(() => ({ arrived }))).arrived;
      }
    }
    this.bar.value = 1;
    return id;
  }

  /**
   * Goes on with an upload of the same file, or begins one.
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
   * @param {BodyInit} [body] none to only ask
   */
  async #ask(path, body) {
    const response = await fetch(`/admin/uploads/${path}`, {
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
    super(error.message ?? gettext("The server did not answer. Try again."));
    // The server has another amount than this page thought, or was away.
    this.stale = error.code ? error.code === "upload_refused" : status >= 500;
  }
}

/** @param {File} file */
function key(file) {
  return `upload:${file.name}:${file.size}:${file.lastModified}`;
}
