/** Upload files in chunks, since the web server holds each request in memory. */

/** @typedef {import("../lib/wire").Attachment} Attachment */

/** Concurrent uploads. */
const AT_ONCE = 2;

export class Uploads {
  /**
   * @param {import("../server/api.js").Api} api
   * @param {() => string} model that tokens are counted for
   */
  constructor(api, model) {
    this.api = api;
    this.model = model;
    this.underWay = 0;
    /** @type {(() => void)[]} queued uploads */
    this.waiting = [];
  }

  /**
   * Upload a file. Rejects with a `CommandError` if the server refuses it.
   * @param {File} file
   * @param {AbortSignal} signal
   * @param {(progress: number) => void} onProgress 0 to 1; at 1 the server processes the file
   * @returns {Promise<Attachment>}
   */
  async bring(file, signal, onProgress) {
    if (this.underWay >= AT_ONCE) {
      await new Promise((resolve) => this.waiting.push(() => resolve(null)));
    }
    this.underWay += 1;
    try {
      signal.throwIfAborted();
      return await this.#send(file, signal, onProgress);
    } finally {
      this.underWay -= 1;
      this.waiting.shift()?.();
    }
  }

  /**
   * @param {File} file
   * @param {AbortSignal} signal
   * @param {(progress: number) => void} onProgress
   */
  async #send(file, signal, onProgress) {
    const { attachment, piece_bytes: size } = await this.api.attach(file.name, file.size);
    try {
      for (let at = 0, number = 0; at < file.size; at += size, number += 1) {
        signal.throwIfAborted();
        await this.api.piece(attachment.id, number, file.slice(at, at + size));
        onProgress(Math.min(1, (at + size) / file.size));
      }
      onProgress(1);
      const read = await this.api.readAttachment(attachment.id, this.model());
      signal.throwIfAborted();
      return read.attachment;
    } catch (error) {
      this.forget(attachment.id);
      throw error;
    }
  }

  /** @param {string} id */
  forget(id) {
    // The server removes what remains after a while.
    this.api.detach(id).catch(() => {});
  }
}
