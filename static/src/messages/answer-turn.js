/** An assistant's turn: parts of the answer, status, and how it ended. */
import { AnswerParts } from "../answer/answer-parts.js";
import { AnswerSources, showLabels } from "../answer/answer-sources.js";
import { citesOf } from "../documents/citation-text.js";
import { byId, copyFrom, h, icon, iconButton, show } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";
import { delayText, endText, figures, retryLabel, waitingText } from "../answer/status-text.js";
import { isOpen } from "../chat/thread.js";
import { Feedback } from "./feedback.js";
import { Turn } from "./turn.js";

/**
 * @typedef {import("../lib/wire").Message} Message
 * @typedef {import("../chat/chat.js").Chat} Chat
 */

export class AnswerTurn extends Turn {
  #article = h("article", { "aria-label": gettext("Answer") });
  #parts = new AnswerParts(this.#article);
  #waiting = h("p", { className: "waiting" });
  #end = h("div", { className: "notice", hidden: true });
  #sources = new AnswerSources();
  #author = h("span", { dir: "auto" });
  #speed = h("span", { className: "speed" });
  #figures = h("span", { className: "figures" }, this.#author, this.#speed);
  #copy = iconButton("copy", gettext("Copy"), () =>
    copyFrom(this.#copy, this.text, gettext("Copied")),
  );
  #regenerate = iconButton("again", gettext("Regenerate"), () => this.#again());
  /** Content without reasoning and calls. */
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
    this.feedback = new Feedback(chat.ratings);
    this.actions.append(
      this.branches,
      this.#copy,
      ...this.feedback.buttons,
      this.#regenerate,
      this.#figures,
    );
    this.#article.addEventListener("click", ({ target }) => this.#sources.openMark(target));
    showLabels(this.#article);
    const heading = h("h2", { className: "sr-only" }, gettext("Answer:"));
    this.element.append(
      heading,
      this.#article,
      this.#waiting,
      this.#end,
      this.#sources.element,
      this.actions,
      this.feedback.element,
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
    this.updateRating();
  }

  /** Show the rating of the answer; those of its conversation are loaded first. */
  updateRating() {
    const { message } = this;
    // The server has no message of a temporary chat to rate.
    const ended = message?.generation && !isOpen(message.generation);
    const rateable = Boolean(ended && !this.chat.shownTemporary);
    this.feedback.buttons.forEach((button) => show(button, rateable));
    if (message && rateable) {
      this.chat.ratings.want(message.conversation);
      this.feedback.show(message.id);
    }
  }

  /** Show the text of the stream, else of the saved message. */
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
      cites: citesOf(generation.sources),
    });
    this.#sources.show(message.id, generation.sources ?? null);
    if (this.#article.ariaBusy !== String(writing)) {
      this.#article.ariaBusy = String(writing);
    }
    show(this.#article, text !== "");
    show(this.#waiting, writing && (streamed === "" || delayText(stream) !== ""));
    if (!this.#waiting.hidden) {
      const waiting = waitingText(stream);
      if (this.#waiting.textContent !== waiting) {
        this.#waiting.textContent = waiting;
      }
    }
    this.element.classList.toggle("open", open);
    this.#showEnd(generation, open ? null : endText(generation, this.#parts.empty));
  }

  /**
   * @param {import("../lib/wire").Generation} generation
   * @param {ReturnType<typeof endText>} end
   */
  #showEnd(generation, end) {
    show(this.#end, end !== null);
    const continuable = end !== null && end.cut && this.text !== "" && this.#isLast();
    const key = `${generation.id} ${generation.state} ${continuable}`;
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
        continuable
          ? this.#button("forward", gettext("Continue"), () => this.#continueAnswer())
          : "",
        end.retry ? this.#button("again", retryLabel(generation), () => this.#again()) : "",
      );
    }
    show(this.#copy, this.text !== "");
    const { author, speed, details } = figures(generation);
    if (this.#author.textContent !== author || this.#figures.title !== details) {
      this.#author.textContent = author;
      this.#speed.textContent = speed && ` · ${speed}`;
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

  async #continueAnswer() {
    if (this.message && (await this.attempt(this.chat.continueAnswer(this.message.id)))) {
      this.#refocus();
    }
  }

  /** Move the focus from a button that was removed. */
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
 * @param {import("../lib/wire").Generation} generation
 * @param {import("../chat/stream.js").Stream | null} stream
 */
function reasoningMs({ timings, ...generation }, stream) {
  const live = isOpen(/** @type {any} */ (generation)) ? (stream?.reasoningMs ?? null) : null;
  const saved = timings.reasoning ?? null;
  return live === null && saved === null ? null : (live ?? 0) + (saved ?? 0);
}
