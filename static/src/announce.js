/** What a screen reader hears: whole sentences of the open answer, and what becomes of it. */
import { h } from "./dom.js";
import { gettext } from "./i18n.js";
import { Sentences } from "./sentences.js";
import { endText, waitingText } from "./status.js";
import { isOpen } from "./thread.js";

/** Older announcements are dropped from the document. */
const KEPT = 30;

export class Announcer {
  /** @type {string | null} generation that is being read out */
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
   * The state of the open conversation's last answer; called at each change of it.
   * @param {import("./thread.js").Message | null} message
   * @param {import("./stream.js").Stream | null} stream
   * @param {string} text what it says, without its reasoning
   */
  follow(message, stream, text) {
    const generation = message?.generation;
    if (!message || !generation) {
      this.#id = null;
      return;
    }
    const open = isOpen(generation);
    if (generation.id !== this.#id) {
      // What a continued answer had already has been read out.
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
   * @param {string} known what need not be read out: it was there before
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
