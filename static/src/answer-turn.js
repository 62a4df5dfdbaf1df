/** An answer in the document: its parts, what it waits for, how it ended. */
import { AnswerParts } from "./answer-parts.js";
import { copyFrom, h, icon, iconButton } from "./dom.js";
import { gettext } from "./i18n.js";
import { endText, figures, waitingText } from "./status.js";
import { isOpen } from "./thread.js";
import { Turn } from "./turns.js";

/**
 * @typedef {import("./thread.js").Message} Message
 * @typedef {import("./chat.js").Chat} Chat
 */

export class AnswerTurn extends Turn {
  #article = h("article", { "aria-label": gettext("Answer") });
  #parts = new AnswerParts(this.#article);
  #waiting = h("p", { className: "waiting" });
  #end = h("div", { className: "notice", hidden: true });
  #figures = h("span", { className: "figures" });
  #copy = iconButton("copy", gettext("Copy"), () =>
    copyFrom(this.#copy, this.text, gettext("Copied")),
  );
  #regenerate = iconButton("again", gettext("Regenerate"), () => this.#again());
  /** What it says, without its reasoning and calls. */
  text = "";

  /**
   * @param {Chat} chat
   * @param {() => string} model the chosen one
   */
  constructor(chat, model) {
    super(chat, "answer");
    this.model = model;
    this.actions.append(this.branches, this.#copy, this.#regenerate, this.#figures);
    const heading = h("h2", { className: "sr-only" }, gettext("Answer:"));
    this.element.append(
      heading,
      this.#article,
      this.#waiting,
      this.#end,
      this.actions,
      this.problem,
    );
  }

  /**
   * @param {Message} message
   * @param {string[]} siblings
   */
  update(message, siblings) {
    this.message = message;
    this.element.dataset.generation = message.generation?.id ?? "";
    this.showBranches(siblings, message.id);
    this.updateText();
  }

  /** Shows what the stream, or else the saved message, holds. */
  updateText() {
    const { message } = this;
    const generation = message?.generation;
    if (!message || !generation) {
      return;
    }
    const stream = this.chat.streams.get(generation.id);
    const open = isOpen(generation);
    const streamed = stream?.text ?? "";
    const text = open && streamed.length >= message.content.length ? streamed : message.content;
    this.text = this.#parts.show(text, {
      complete: !open,
      syntax: { ...stream?.syntax, ...generation.syntax },
      reasoningMs: generation.timings.reasoning ?? stream?.reasoningMs ?? null,
    });
    this.#article.ariaBusy = String(open);
    this.#article.hidden = text === "";
    this.#waiting.hidden = !open || streamed !== "";
    if (!this.#waiting.hidden) {
      const waiting = waitingText(stream);
      if (this.#waiting.textContent !== waiting) {
        this.#waiting.textContent = waiting;
      }
    }
    this.element.classList.toggle("open", open);
    if (open) {
      this.#end.hidden = true;
    } else {
      this.#showEnd(generation);
    }
  }

  /** @param {import("./thread.js").Generation} generation */
  #showEnd(generation) {
    const end = endText(generation);
    this.#end.hidden = end === null;
    if (end && this.#end.dataset.state !== generation.state) {
      this.#end.dataset.state = generation.state;
      this.#end.className = `notice ${end.kind}`;
      const retry = h(
        "button",
        { type: "button", className: "button", onclick: () => this.#again() },
        icon("again"),
        gettext("Retry"),
      );
      this.#end.replaceChildren(h("span", {}, end.text), end.retry ? retry : "");
    }
    this.#copy.hidden = this.text === "";
    const { text, details } = figures(generation);
    this.#figures.textContent = text;
    this.#figures.title = details;
  }

  async #again() {
    if (!this.message) {
      return;
    }
    this.#regenerate.disabled = true;
    await this.attempt(this.chat.regenerate(this.message.id, this.model()));
    this.#regenerate.disabled = false;
  }
}
