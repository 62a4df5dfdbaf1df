/** Client of the endpoints of collections and their documents. */
import { at } from "../lib/urls.js";
import { requestJson } from "./requests.js";

const BASE = at("/knowledge/");
/** Passages that a search returns. */
const FOUND = 20;

/**
 * @typedef {object} Collection
 * @property {string} id
 * @property {string} name
 * @property {string} description
 * @property {{kind: "user" | "group", name: string}} owner
 * @property {boolean} may_write add, change and delete documents
 * @property {boolean} may_manage rename, share and delete the collection
 * @property {boolean} shared
 * @property {number} documents
 * @property {number} bytes
 * @property {number} open documents that are queued or being read
 * @property {number} failed
 * @property {string} updated_at
 *
 * @typedef {object} Folder
 * @property {string} path
 * @property {number} documents
 *
 * @typedef {object} Document
 * @property {string} id
 * @property {string} path
 * @property {string} name
 * @property {number} size
 * @property {string} kind
 * @property {number | null} pages
 * @property {"uploading" | "queued" | "reading" | "ready" | "failed"} state
 * @property {{code: string, message: string} | null} error
 * @property {string[]} notes what could not be read
 * @property {number} version
 * @property {string} updated_at
 * @property {string} [source_url]
 *
 * @typedef {{folders: Folder[], documents: Document[], next: string | null}} Listing
 *
 * @typedef {object} Share
 * @property {"user" | "group"} kind
 * @property {number | string} id
 * @property {string} name
 * @property {boolean} may_write
 *
 * @typedef {object} Begun an upload that the server expects
 * @property {string} id of the document
 * @property {number} version
 * @property {number} piece_bytes
 * @property {boolean} unchanged the server has this content already
 *
 * @typedef {object} Passage
 * @property {number} id
 * @property {string} document
 * @property {string} name path of the document
 * @property {string} heading
 * @property {string} text
 * @property {number} start
 * @property {number} end
 * @property {number | null} page
 * @property {number | null} last_page
 */

export class KnowledgeApi {
  /** @param {string} csrf token */
  constructor(csrf) {
    this.csrf = csrf;
  }

  /** @returns {Promise<{collections: Collection[]}>} */
  collections() {
    return this.#json("GET", "collections/");
  }

  /**
   * @param {{name: string, description: string, group?: number | string}} values
   * @returns {Promise<{collection: Collection}>}
   */
  create(values) {
    return this.#json("POST", "collections/", values);
  }

  /**
   * @param {string} id
   * @param {{name?: string, description?: string}} changes
   */
  change(id, changes) {
    return this.#json("PATCH", `collections/${id}/`, changes);
  }

  /** @param {string} id */
  remove(id) {
    return this.#json("DELETE", `collections/${id}/`);
  }

  /**
   * @param {string} id
   * @param {string} folder "" for the top
   * @param {string | null} [after] cursor from the previous page
   * @returns {Promise<Listing>}
   */
  documents(id, folder, after = null) {
    const query = new URLSearchParams({ folder, ...(after && { after }) });
    return this.#json("GET", `collections/${id}/documents/?${query}`);
  }

  /**
   * Rename a folder, or move it into another.
   * @param {string} id
   * @param {string} folder
   * @param {string} path
   */
  moveFolder(id, folder, path) {
    const query = new URLSearchParams({ folder });
    return this.#json("PATCH", `collections/${id}/documents/?${query}`, { path });
  }

  /**
   * Delete a folder with everything in it.
   * @param {string} id
   * @param {string} folder
   */
  removeFolder(id, folder) {
    return this.#json("DELETE", `collections/${id}/documents/?${new URLSearchParams({ folder })}`);
  }

  /** @param {string} id */
  removeDocument(id) {
    return this.#json("DELETE", `documents/${id}/`);
  }

  /**
   * @param {string} id
   * @param {string} path
   */
  move(id, path) {
    return this.#json("POST", `documents/${id}/move/`, { path });
  }

  /**
   * @param {string} collection
   * @param {{path: string, size: number, sha256: string}} file
   * @param {AbortSignal} signal
   * @returns {Promise<Begun>}
   */
  begin(collection, file, signal) {
    return this.#json("POST", `collections/${collection}/documents/`, file, signal);
  }

  /**
   * @param {Begun} begun
   * @param {number} number from 0
   * @param {Blob} data
   * @param {AbortSignal} signal
   */
  piece({ id, version }, number, data, signal) {
    return this.#json("PUT", `documents/${id}/pieces/${version}/${number}/`, data, signal);
  }

  /**
   * Finish an upload: the server reads the document.
   * @param {Begun} begun
   */
  finish({ id, version }) {
    return this.#json("POST", `documents/${id}/finish/`, { version });
  }

  /** @param {string} id @returns {Promise<{shares: Share[]}>} */
  shares(id) {
    return this.#json("GET", `collections/${id}/shares/`);
  }

  /**
   * @param {string} id
   * @param {Share[]} shares
   * @returns {Promise<{shares: Share[]}>}
   */
  setShares(id, shares) {
    const sent = shares.map(({ kind, id: of, may_write }) => ({ kind, id: of, may_write }));
    return this.#json("PUT", `collections/${id}/shares/`, { shares: sent });
  }

  /**
   * Find users and groups by name.
   * @param {string} text
   * @returns {Promise<{people: Omit<Share, "may_write">[]}>}
   */
  people(text) {
    return this.#json("GET", `people/?${new URLSearchParams({ q: text })}`);
  }

  /**
   * Search a collection.
   * @param {string} id
   * @param {string} text
   * @param {AbortSignal} signal
   * @returns {Promise<{passages: Passage[], searched_documents: number, missing: string}>}
   */
  search(id, text, signal) {
    const asked = { query: text, collections: [id], limit: FOUND };
    return this.#json("POST", "search/", asked, signal);
  }

  /** Read a document again. @param {string} id */
  retry(id) {
    return this.#json("POST", `documents/${id}/retry/`);
  }

  /** @param {string} id of a document */
  file(id) {
    return `${BASE}documents/${id}/file/`;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object | Blob} [body]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  #json(method, path, body, signal) {
    return requestJson(method, BASE + path, { csrf: this.csrf, body, signal });
  }
}
