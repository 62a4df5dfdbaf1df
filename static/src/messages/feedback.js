/** The thumbs below an answer, and the panel for reason, comment and consent. */
import { attempt, h, iconButton } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";

/**
 * @typedef {import("../lib/wire").Rating} Rating
 * @typedef {import("../chat/ratings.js").Ratings} Ratings
 * @typedef {Rating["vote"]} Vote
 */

const COMMENT_CHARS = 2000;

/** @type {Record<Vote, [string, string][]>} values and labels, as `feedback.models.REASONS` */
const REASONS = {
  up: [
    ["correct", gettext("Correct")],
    ["helpful", gettext("Helpful")],
    ["clear", gettext("Clear and well written")],
    ["other", gettext("Other")],
  ],
  down: [
    ["wrong", gettext("Wrong or made up")],
    ["unhelpful", gettext("Not helpful")],
    ["ignored", gettext("Did not follow my instructions")],
    ["incomplete", gettext("Incomplete")],
    ["refused", gettext("Refused without need")],
    ["harmful", gettext("Harmful or offensive")],
    ["language", gettext("Wrong language or style")],
    ["other", gettext("Other")],
  ],
};

export class Feedback {
  #message = "";
  /** @type {HTMLElement | null} */
  #panel = null;
  #problem = h("p", { className: "notice error", role: "alert", hidden: true });

  /** @param {Ratings} ratings */
  constructor(ratings) {
    this.ratings = ratings;
    this.up = iconButton("thumb-up", gettext("Good answer"), () => this.#press("up"));
    this.down = iconButton("thumb-down", gettext("Bad answer"), () => this.#press("down"));
    this.buttons = [this.up, this.down];
    for (const button of this.buttons) {
      button.addEventListener("keydown", (event) => this.#key(event));
      button.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-expanded", "false");
    }
    /** Below the actions. */
    this.element = h("div", { className: "feedback", hidden: true });
  }

  /** @param {string} message ID of the answer */
  show(message) {
    if (message !== this.#message) {
      this.#message = message;
      this.#close();
    }
    const vote = this.ratings.of(message)?.vote;
    this.up.ariaPressed = String(vote === "up");
    this.down.ariaPressed = String(vote === "down");
  }

  /**
   * Rate the answer, or open its rating.
   * @param {Vote} vote
   */
  async #press(vote) {
    const before = this.ratings.of(this.#message);
    if (before?.vote === vote) {
      if (this.#panel) {
        this.#close();
      } else {
        this.#open(before);
      }
      return;
    }
    // A reason belongs to its vote, comment and consent do not.
    const rating = {
      vote,
      reason: "",
      comment: before?.comment ?? "",
      shared: before?.shared ?? false,
    };
    this.#open(rating);
    if (!(await this.#attempt(this.ratings.rate(this.#message, rating)))) {
      this.#panel?.remove();
      this.#panel = null;
    }
  }

  /** Close the panel by Escape. @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Escape" && this.#panel) {
      event.stopPropagation();
      this.#close(true);
    }
  }

  /** @param {Promise<unknown>} work */
  #attempt(work) {
    this.element.hidden = false;
    return attempt(this.#problem, work);
  }

  /** @param {Rating} rating */
  #open(rating) {
    const id = `feedback-${this.#message}`;
    const reasons = REASONS[rating.vote].map(([value, label]) => {
      const input = h("input", { type: "radio", name: `${id}-reason`, value });
      input.checked = value === rating.reason;
      return h("label", {}, input, h("span", {}, label));
    });
    const comment = h("textarea", {
      value: rating.comment,
      maxLength: COMMENT_CHARS,
      rows: 2,
      id: `${id}-comment`,
    });
    const shared = h("input", { type: "checkbox", id: `${id}-shared`, checked: rating.shared });
    const status = h("p", { className: "quiet", role: "status" }, gettext("Thank you."));
    const form = h(
      "form",
      { className: "feedback-form", id, "aria-label": gettext("Feedback") },
      status,
      h(
        "fieldset",
        { className: "reasons" },
        h("legend", {}, gettext("Reason (optional)")),
        ...reasons,
      ),
      h("label", { htmlFor: comment.id }, gettext("Comment for the administrators (optional)")),
      comment,
      h(
        "label",
        { className: "consent", htmlFor: shared.id },
        shared,
        h("span", {}, gettext("Share this conversation with the administrators")),
      ),
      h(
        "p",
        { className: "fine" },
        gettext(
          "Without this they see the rating, reason and comment only. A copy of the conversation up to this answer is shared, until you uncheck this box or delete the conversation.",
        ),
      ),
      h(
        "div",
        { className: "dialog-buttons" },
        h(
          "button",
          { type: "button", className: "button", onclick: () => this.#remove() },
          gettext("Remove rating"),
        ),
        h(
          "button",
          { type: "button", className: "button", onclick: () => this.#close(true) },
          gettext("Close"),
        ),
        h("button", { type: "submit", className: "button primary" }, gettext("Save")),
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const reason = reasons
        .map((label) => label.querySelector("input"))
        .find((one) => one?.checked);
      this.#save({
        vote: rating.vote,
        reason: reason?.value ?? "",
        comment: comment.value,
        shared: shared.checked,
      });
    });
    form.addEventListener("keydown", (event) => this.#key(event));
    this.#panel = form;
    this.#problem.hidden = true;
    this.element.replaceChildren(form, this.#problem);
    this.element.hidden = false;
    this.#expanded(rating.vote, id);
    form.scrollIntoView({ block: "nearest" });
  }

  /** @param {Rating} rating */
  async #save(rating) {
    if (await this.#attempt(this.ratings.rate(this.#message, rating))) {
      this.#close(true);
    }
  }

  async #remove() {
    const button = this.#pressed();
    if (await this.#attempt(this.ratings.remove(this.#message))) {
      this.#close();
      button.focus({ preventScroll: true });
    }
  }

  #pressed() {
    return this.down.ariaPressed === "true" ? this.down : this.up;
  }

  /** @param {boolean} [refocus] move the focus to the thumb */
  #close(refocus = false) {
    this.#panel = null;
    this.element.hidden = true;
    this.element.replaceChildren();
    this.#expanded(null, "");
    if (refocus) {
      this.#pressed().focus({ preventScroll: true });
    }
  }

  /**
   * @param {Vote | null} vote
   * @param {string} id
   */
  #expanded(vote, id) {
    for (const [button, of] of /** @type {const} */ ([
      [this.up, "up"],
      [this.down, "down"],
    ])) {
      button.ariaExpanded = String(vote === of);
      if (vote === of) {
        button.setAttribute("aria-controls", id);
      } else {
        button.removeAttribute("aria-controls");
      }
    }
  }
}
