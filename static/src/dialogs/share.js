/** The dialog that shares a conversation and revokes the link. */
import { attempt, byId, copyText } from "../lib/dom.js";
import { dateTime, fill, gettext } from "../lib/i18n.js";

/** @typedef {import("../lib/wire").SharedCopy} Shared */

export class Share {
  /** @type {HTMLDialogElement} */
  #dialog = byId("share");
  /** @type {HTMLInputElement} */
  #address = byId("share-address");
  #state = byId("share-state");
  #problem = byId("share-problem");
  #publish = byId("share-publish");
  #revoke = byId("share-revoke");
  /** @type {string} */
  #id = "";

  /** @param {import("../server/api.js").Api} api */
  constructor(api) {
    this.api = api;
    byId("share-close").onclick = () => this.#dialog.close();
    byId("share-copy").onclick = () => this.#copy();
    this.#publish.onclick = () => this.#do(this.api.share(this.#id, "POST"));
    this.#revoke.onclick = async () => {
      await this.#do(this.api.share(this.#id, "DELETE"));
      this.#publish.focus();
    };
  }

  /** @param {string} id */
  async open(id) {
    this.#id = id;
    this.#show(null);
    this.#dialog.showModal();
    await this.#do(this.api.share(id, "GET"));
  }

  /** @param {Promise<{share: Shared | null} | null>} work */
  #do(work) {
    return attempt(
      this.#problem,
      work.then((answer) => this.#show(answer?.share ?? null)),
    );
  }

  /** @param {Shared | null} share */
  #show(share) {
    byId("share-link").hidden = share === null;
    this.#revoke.hidden = share === null;
    this.#publish.textContent = share ? gettext("Update shared copy") : gettext("Create link");
    this.#publish.classList.toggle("primary", share === null);
    this.#address.value = share ? new URL(share.address, location.href).href : "";
    this.#state.textContent = share
      ? fill(gettext("Shared copy from {date}"), { date: dateTime(share.taken_at) })
      : gettext("Not shared");
  }

  async #copy() {
    this.#address.select();
    await copyText(this.#address.value);
    this.#state.textContent = gettext("Copied");
  }
}
