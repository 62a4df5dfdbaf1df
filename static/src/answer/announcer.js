/** Announce the streamed answer to screen readers, by sentence, and how it ended. */
import { h } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";
import { Sentences } from "../lib/sentences.js";
import { endText, waitingText } from "./status-text.js";
import { isOpen } from "../chat/thread.js";

/** Older announcements are dropped from the document. */
const KEPT = 30;

export class Announcer {
  /** @type {string | null} generation that is being announced */
  #id = null;
  #read = 0;
  #sentences = new Sentences();
  #status = "";

  /** @param {HTMLElement} region */
  constructor(region) {
    this.region = region;
  }

  /** @param {string} text */
  say(text) {
    this.region.append(h("p", {}, text));
    while (this.region.childElementCount > KEPT) {
      this.region.firstElementChild?.remove();
    }
  }

  /**
   * Announce what is new in the open conversation's last answer. Call at each change.
   * @param {import("../lib/wire").Message | null} message
   * @param {import("../chat/stream.js").Stream | null} stream
   * @param {string} text of the answer without reasoning
   */
  follow(message, stream, text) {
    const generation = message?.generation;
    if (!message || !generation) {
      this.#id = null;
      return;
    }
    const open = isOpen(generation);
    if (generation.id !== this.#id) {
      // The text before a continuation has been announced already.
      this.#begin(generation.id, message.content === "" ? "" : text);
      if (!open) {
        return;
      }
    }
    if (text.length > this.#read) {
      this.#sentences.push(text.slice(this.#read)).forEach((sentence) => this.say(sentence));
      this.#read = text.length;
    }
    if (open) {
      this.#sayStatus(text ? "" : waitingText(stream, false));
    } else if (this.#status !== generation.state) {
      this.#sentences.flush().forEach((sentence) => this.say(sentence));
      this.#status = generation.state;
      this.say(endText(generation)?.text ?? gettext("The answer is complete."));
    }
  }

  /**
   * @param {string} id
   * @param {string} known text that is not announced, since it was shown before
   */
  #begin(id, known) {
    this.#id = id;
    this.#read = known.length;
    this.#sentences = new Sentences();
    this.#status = "";
  }

  /** @param {string} words */
  #sayStatus(words) {
    if (words && words !== this.#status) {
      this.#status = words;
      this.say(words);
    }
  }
}
