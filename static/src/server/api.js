/** Client of the page's HTTP endpoints. Refusals are `CommandError`s, as on the socket. */
import { at } from "../lib/urls.js";
import { requestJson } from "./requests.js";

const BASE = at("/chat/");

export class Api {
  /** @param {string} csrf token */
  constructor(csrf) {
    this.csrf = csrf;
  }

  /**
   * @param {string} view
   * @param {{updated_at: string, id: string} | null} [before] the last loaded one
   * @returns {Promise<import("../lib/wire").Page>} the first one is a `FirstPage`
   */
  conversations(view, before = null) {
    const from = before && { before: `${before.updated_at},${before.id}` };
    return this.#json("GET", `conversations/?${new URLSearchParams({ view, ...from })}`);
  }

  /**
   * @param {string} id
   * @returns {Promise<import("../lib/wire").Opening>}
   */
  conversation(id) {
    return this.#json("GET", `conversations/${id}/`);
  }

  /**
   * Return messages of a branch, the last of which is `until`.
   * @param {string} id of the conversation
   * @param {string} until
   * @returns {Promise<import("../lib/wire").Messages>}
   */
  messages(id, until) {
    return this.#json("GET", `conversations/${id}/messages/?until=${until}`);
  }

  /** Confirm the notice of an administrator's read. @param {string} id */
  confirmRead(id) {
    return this.#json("POST", `reads/${id}/`);
  }

  /**
   * @param {string} id
   * @param {import("../lib/wire").Changes} change
   * @returns {Promise<{conversation: import("../lib/wire").Conversation}>}
   */
  change(id, change) {
    return this.#json("PATCH", `conversations/${id}/`, change);
  }

  /**
   * @param {string[]} ids
   * @param {import("../lib/wire").BulkAction["action"]} action
   * @param {string | null} folder
   * @returns {Promise<{conversations: import("../lib/wire").Conversation[]}>}
   */
  organise(ids, action, folder) {
    return this.#json("POST", "organise/", { ids, action, folder });
  }

  /**
   * Apply an action to all conversations of a view.
   * @param {string} view
   * @param {import("../lib/wire").BulkAction["action"]} action
   * @param {string | null} folder
   * @returns {Promise<{conversations: import("../lib/wire").Moved[]}>} those that changed,
   *   with the folder they were in
   */
  organiseView(view, action, folder) {
    return this.#json("POST", "organise/", { view, action, folder });
  }

  /** @param {string} view @returns {Promise<{count: number}>} */
  countIn(view) {
    return this.#json("GET", `conversations/count/?${new URLSearchParams({ view })}`);
  }

  /**
   * @param {string} name
   * @returns {Promise<{folder: import("../lib/wire").Folder}>}
   */
  makeFolder(name) {
    return this.#json("POST", "folders/", { name });
  }

  /**
   * @param {string} id
   * @param {string} name
   * @returns {Promise<{folder: import("../lib/wire").Folder}>}
   */
  renameFolder(id, name) {
    return this.#json("PATCH", `folders/${id}/`, { name });
  }

  /** @param {string} id */
  removeFolder(id) {
    return this.#json("DELETE", `folders/${id}/`);
  }

  /**
   * @param {string} text
   * @param {string | null} before cursor from the previous page
   * @returns {Promise<import("../lib/wire").SearchResults>}
   */
  search(text, before) {
    const query = new URLSearchParams({ q: text, ...(before && { before }) });
    return this.#json("GET", `search/?${query}`);
  }

  /**
   * @param {string} id
   * @param {"GET" | "POST" | "DELETE"} method
   * @returns {Promise<{share: import("../lib/wire").SharedCopy | null} | null>}
   */
  share(id, method) {
    return this.#json(method, `conversations/${id}/share/`);
  }

  /**
   * @param {string} id of the conversation
   * @returns {Promise<import("../lib/wire").Ratings>}
   */
  ratings(id) {
    return this.#json("GET", `conversations/${id}/feedback/`);
  }

  /**
   * @param {string} id of the message
   * @param {import("../lib/wire").Rating} rating
   * @returns {Promise<{rating: import("../lib/wire").Rating}>}
   */
  rate(id, rating) {
    return this.#json("PUT", `messages/${id}/feedback/`, rating);
  }

  /** @param {string} id of the message */
  removeRating(id) {
    return this.#json("DELETE", `messages/${id}/feedback/`);
  }

  /**
   * @param {string} conversations a JSON array
   * @returns {Promise<import("../lib/wire").ImportReport>}
   */
  take(conversations) {
    return this.#json("POST", "import/", conversations);
  }

  /**
   * @returns {Promise<import("../lib/wire").Models>}
   */
  models() {
    return this.#json("GET", "models/");
  }

  /** @returns {Promise<import("../lib/wire").Quotas>} */
  quotas() {
    return this.#json("GET", "quotas/");
  }

  /** @returns {Promise<{details: Record<string, import("../lib/wire").ModelDetails>}>} */
  modelDetails() {
    return this.#json("GET", "models/details/");
  }

  /**
   * Start the upload of a file.
   * @param {string} name
   * @param {number} size in bytes
   */
  attach(name, size) {
    return this.#json("POST", "attachments/", { name, size });
  }

  /**
   * @param {string} id
   * @param {number} number
   * @param {Blob} data
   */
  piece(id, number, data) {
    return this.#json("PUT", `attachments/${id}/pieces/${number}/`, data);
  }

  /**
   * Finish an upload: the server processes the file.
   * @param {string} id
   * @param {string} model
   */
  readAttachment(id, model) {
    return this.#json("POST", `attachments/${id}/read/`, { model });
  }

  /** @param {string} id */
  detach(id) {
    return this.#json("DELETE", `attachments/${id}/`);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object | Blob | string} [body] a string is encoded JSON
   * @returns {Promise<any>}
   */
  #json(method, path, body) {
    return requestJson(method, BASE + path, { csrf: this.csrf, body });
  }
}
