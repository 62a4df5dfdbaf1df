/** The page's HTTP endpoints. Refusals are `CommandError`s, as on the socket. */
import { CommandError } from "./connection.js";
import { gettext } from "./i18n.js";

const BASE = "/chat/";

export class Api {
  /** @param {string} csrf token */
  constructor(csrf) {
    this.csrf = csrf;
  }

  /**
   * @param {string} view
   * @param {{updated_at: string, id: string} | null} [before] the last one that is known
   * @returns {Promise<import("./conversations.js").Page>} the first one is a `FirstPage`
   */
  conversations(view, before = null) {
    const from = before && { before: `${before.updated_at},${before.id}` };
    return this.#json("GET", `conversations/?${new URLSearchParams({ view, ...from })}`);
  }

  /**
   * @param {string} id
   * @returns {Promise<import("./thread.js").Opening>}
   */
  conversation(id) {
    return this.#json("GET", `conversations/${id}/`);
  }

  /**
   * Messages of a branch, the last of which is `until`.
   * @param {string} id of the conversation
   * @param {string} until
   * @returns {Promise<{messages: import("./thread.js").Message[]}>}
   */
  messages(id, until) {
    return this.#json("GET", `conversations/${id}/messages/?until=${until}`);
  }

  /**
   * @param {string} id
   * @param {{title?: string, head?: string, keep_latest?: boolean}} change
   * @returns {Promise<{conversation: import("./thread.js").Conversation}>}
   */
  change(id, change) {
    return this.#json("PATCH", `conversations/${id}/`, change);
  }

  /**
   * @param {string[]} ids
   * @param {import("./conversations.js").Action} action
   * @param {string | null} folder
   * @returns {Promise<{conversations: import("./thread.js").Conversation[]}>}
   */
  organise(ids, action, folder) {
    return this.#json("POST", "organise/", { ids, action, folder });
  }

  /**
   * @param {string} name
   * @returns {Promise<{folder: import("./conversations.js").Folder}>}
   */
  makeFolder(name) {
    return this.#json("POST", "folders/", { name });
  }

  /**
   * @param {string} id
   * @param {string} name
   * @returns {Promise<{folder: import("./conversations.js").Folder}>}
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
   * @param {string | null} before from the page before
   * @returns {Promise<import("./search.js").Found>}
   */
  search(text, before) {
    const query = new URLSearchParams({ q: text, ...(before && { before }) });
    return this.#json("GET", `search/?${query}`);
  }

  /**
   * @param {string} id
   * @param {"GET" | "POST" | "DELETE"} method
   * @returns {Promise<{share: import("./share.js").Shared | null} | null>}
   */
  share(id, method) {
    return this.#json(method, `conversations/${id}/share/`);
  }

  /**
   * @param {string} conversations a JSON array
   * @returns {Promise<import("./exchange.js").Report>}
   */
  take(conversations) {
    return this.#json("POST", "import/", conversations);
  }

  /**
   * @returns {Promise<{models: import("./models.js").Model[],
   *   assistants: import("./models.js").Assistant[], default_model: string | null}>}
   */
  models() {
    return this.#json("GET", "models/");
  }

  /**
   * Announces a file that comes in pieces.
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
   * All pieces are there: the server reads the file.
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
   * @param {object | Blob | string} [body] a string is JSON already
   * @returns {Promise<any>}
   */
  async #json(method, path, body) {
    const raw = body instanceof Blob;
    const sent = raw || typeof body !== "object" ? body : JSON.stringify(body);
    const small = typeof sent !== "string" || sent.length < 16_000;
    let response;
    try {
      response = await fetch(BASE + path, {
        method,
        headers: {
          Accept: "application/json",
          ...(sent && { "Content-Type": raw ? "application/octet-stream" : "application/json" }),
          ...(method !== "GET" && { "X-CSRFToken": this.csrf }),
        },
        body: sent,
        credentials: "same-origin",
        // What somebody chose is saved, also when they leave the page at once. Browsers refuse
        // more than 64 KiB of it.
        keepalive: method !== "GET" && !raw && small,
        // A redirect leads to the sign-in page: that is an answer too.
        redirect: "manual",
      });
    } catch {
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
    if (data?.error) {
      throw new CommandError(data.error.code, data.error.message, data.error.permanent);
    }
    if (response.type === "opaqueredirect" || response.status === 401) {
      throw new CommandError("not_signed_in", gettext("You are signed out. Sign in again."), true);
    }
    throw new CommandError(
      "error",
      gettext("Something went wrong on the server. Try again in a moment."),
    );
  }
}
