/** Content of an empty chat: model or assistant, and suggestions. */
import { byId, h } from "../lib/dom.js";

export class Welcome {
  #title = byId("welcome-title");
  #text = byId("welcome-text");
  #suggestions = byId("welcome");
  /** Default suggestions, for a plain model. */
  #own = { title: this.#title.textContent, suggestions: [...this.#suggestions.children] };

  /** @param {(text: string) => void} onChosen */
  constructor(onChosen) {
    this.#suggestions.addEventListener("click", (/** @type {MouseEvent} */ event) => {
      const suggestion = /** @type {Element} */ (event.target).closest("button");
      if (suggestion) {
        onChosen(suggestion.textContent?.trim() ?? "");
      }
    });
  }

  /** @param {import("../lib/wire").Assistant | null} assistant */
  show(assistant) {
    const title = assistant ? `${assistant.icon} ${assistant.name}` : this.#own.title;
    if (this.#title.textContent === title && this.#title.dataset.id === (assistant?.id ?? "")) {
      return;
    }
    this.#title.dataset.id = assistant?.id ?? "";
    this.#title.textContent = title;
    this.#text.textContent = assistant?.description ?? "";
    this.#text.hidden = !assistant?.description;
    const suggestions = assistant?.suggestions.map((text) =>
      h("button", { type: "button", dir: "auto" }, text),
    );
    this.#suggestions.replaceChildren(...(suggestions ?? this.#own.suggestions));
  }
}
