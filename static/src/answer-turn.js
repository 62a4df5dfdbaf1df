/** An answer in the document: its parts, what it waits for, how it ended. */
import { AnswerParts } from "./answer-parts.js";
import { byId, copyFrom, h, icon, iconButton, show } from "./dom.js";
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
    this.#copy.dataset.action = "copy";
    this.#regenerate.dataset.action = "again";
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
    const writing = open && !stream?.stopping;
    const streamed = stream?.text ?? "";
    const text = open && streamed.length >= message.content.length ? streamed : message.content;
    this.text = this.#parts.show(text, {
      complete: !writing,
      syntax: { ...stream?.syntax, ...generation.syntax },
      reasoningMs: reasoningMs(generation, stream),
    });
    if (this.#article.ariaBusy !== String(writing)) {
      this.#article.ariaBusy = String(writing);
    }
    show(this.#article, text !== "");
    show(this.#waiting, writing && streamed === "");
    if (!this.#waiting.hidden) {
      const waiting = waitingText(stream);
      if (this.#waiting.textContent !== waiting) {
        this.#waiting.textContent = waiting;
      }
    }
    this.element.classList.toggle("open", open);
    this.#showEnd(generation, open ? null : endText(generation));
  }

  /**
   * @param {import("./thread.js").Generation} generation
   * @param {ReturnType<typeof endText>} end
   */
  #showEnd(generation, end) {
    show(this.#end, end !== null);
    const goesOn = end !== null && end.cut && this.text !== "" && this.#isLast();
    const key = `${generation.id} ${generation.state} ${goesOn}`;
    if (!end) {
      if (this.#end.dataset.key) {
        this.#end.replaceChildren();
        this.#end.dataset.key = "";
      }
    } else if (this.#end.dataset.key !== key) {
      this.#end.dataset.key = key;
      this.#end.className = `notice ${end.kind}`;
      const text = h("span", {}, end.text);
      this.#end.replaceChildren(
        text,
        goesOn ? this.#button("forward", gettext("Continue"), () => this.#goOn()) : "",
        end.retry ? this.#button("again", gettext("Retry"), () => this.#again()) : "",
      );
    }
    show(this.#copy, this.text !== "");
    const { text, details } = figures(generation);
    if (this.#figures.textContent !== text) {
      this.#figures.textContent = text;
      this.#figures.title = details;
    }
  }

  #isLast() {
    return !this.chat.thread?.children.has(this.message?.id ?? "");
  }

  /**
   * @param {string} drawing
   * @param {string} label
   * @param {() => void} onclick
   */
  #button(drawing, label, onclick) {
    return h("button", { type: "button", className: "button", onclick }, icon(drawing), label);
  }

  async #goOn() {
    if (this.message && (await this.attempt(this.chat.goOn(this.message.id)))) {
      this.#refocus();
    }
  }

  /** The button that was pressed is gone. */
  #refocus() {
    if (document.activeElement === document.body) {
      byId("message").focus({ preventScroll: true });
    }
  }

  async #again() {
    if (!this.message) {
      return;
    }
    this.#regenerate.disabled = true;
    await this.attempt(this.chat.regenerate(this.message.id, this.model()));
    this.#regenerate.disabled = false;
    this.#refocus();
  }
}

/**
 * @param {import("./thread.js").Generation} generation
 * @param {import("./stream.js").Stream | null} stream
 */
function reasoningMs({ timings, ...generation }, stream) {
  const live = isOpen(/** @type {any} */ (generation)) ? (stream?.reasoningMs ?? null) : null;
  const saved = timings.reasoning ?? null;
  return live === null && saved === null ? null : (live ?? 0) + (saved ?? 0);
}
