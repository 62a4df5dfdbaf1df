/**
 * The collections that are searched for a conversation's questions: chips in the composer, chosen
 * with # in the message box or with a button.
 *
 * @typedef {import("../lib/wire").CollectionFace} Face
 */
import { openMenu } from "../lib/dialogs.js";
import { h, icon, iconButton, isSignedOut } from "../lib/dom.js";
import { allows } from "../lib/features.js";
import { fill, gettext } from "../lib/i18n.js";

/** As the server allows. */
const MOST = 20;
/** Offered at once. */
const OFFERED = 8;
/** A "#" at the beginning of a word, and the name that is being typed up to the caret. */
const TYPED = /(?:^|\s)#([^\s#]{0,40})$/u;
/** The list of collections is loaded again after this time. */
const FRESH_MS = 30_000;

/** @param {string} text without case and accents */
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

export class AttachedCollections {
  /** Those of a chat that is not saved. @type {Face[]} */
  #unsaved = [];
  /** All that the user may read. @type {Face[]} */
  #known = [];
  #loadedAt = 0;
  /** @type {Face[]} */
  #offered = [];
  #active = 0;
  #shown = "";

  /**
   * @param {object} places
   * @param {HTMLElement} places.list of chips
   * @param {HTMLElement} places.button
   * @param {HTMLElement} places.popup the list below "#"
   * @param {HTMLTextAreaElement} places.box
   * @param {object} options
   * @param {import("../chat/chat.js").Chat} options.chat
   * @param {() => Promise<Face[]>} options.load
   * @param {() => void} options.onChange
   * @param {(text: string) => void} options.onProblem
   * @param {() => void} options.manage opens the page of collections
   */
  constructor({ list, button, popup, box }, { chat, load, onChange, onProblem, manage }) {
    this.list = list;
    this.button = button;
    this.popup = popup;
    this.box = box;
    this.chat = chat;
    this.load = load;
    this.onChange = onChange;
    this.onProblem = onProblem;
    this.manage = manage;
    button.addEventListener("click", () => void this.#openMenu());
    box.addEventListener("input", () => void this.#typed());
    box.addEventListener("blur", () => this.#close());
    // Before the composer, which sends the message with Enter.
    box.addEventListener("keydown", (event) => this.#key(event), { capture: true });
    chat.addEventListener("open", () => {
      if (chat.current !== null && !chat.shownTemporary) {
        this.#unsaved = [];
      }
      this.draw();
    });
    chat.addEventListener("thread", () => this.draw());
    chat.addEventListener("created", () => {
      if (chat.thread) {
        chat.thread.collections = this.#unsaved;
      }
      this.#unsaved = [];
      this.draw();
    });
  }

  /** Whether the server has the conversation, and its collections. */
  get #saved() {
    return this.chat.current !== null && !this.chat.shownTemporary;
  }

  /** @returns {Face[]} */
  get chosen() {
    return this.#saved ? (this.chat.thread?.collections ?? []) : this.#unsaved;
  }

  get ids() {
    return this.chosen.map(({ id }) => id);
  }

  /** Ids for a command, of a chat that the server does not have. */
  get unsavedIds() {
    return this.#saved ? undefined : this.ids;
  }

  /** Attach a collection to a new chat, by the address of the page. @param {string} id */
  async attach(id) {
    const found = (await this.#load()).find((one) => one.id === id);
    if (found && !this.ids.includes(id)) {
      await this.#set([...this.chosen, found]);
    }
  }

  async #load() {
    if (Date.now() - this.#loadedAt > FRESH_MS) {
      this.#known = await this.load().catch((error) => {
        if (!isSignedOut(error)) {
          this.onProblem(error instanceof Error ? error.message : String(error));
        }
        return [];
      });
      this.#loadedAt = this.#known.length > 0 ? Date.now() : 0;
    }
    return this.#known;
  }

  /** @param {Face[]} wanted */
  async #set(wanted) {
    const { chat } = this;
    const { current, thread } = chat;
    if (wanted.length > MOST) {
      this.onProblem(
        fill(gettext("A chat can have at most {count} collections."), { count: MOST }),
      );
      return;
    }
    if (!this.#saved || current === null || !thread) {
      this.#unsaved = wanted;
      this.draw();
      this.onChange();
      return;
    }
    const before = thread.collections;
    thread.collections = wanted;
    this.draw();
    try {
      await chat.api.change(current, { collections: wanted.map(({ id }) => id) });
    } catch (error) {
      thread.collections = before;
      this.draw();
      if (!isSignedOut(error)) {
        this.onProblem(error instanceof Error ? error.message : String(error));
      }
    }
    this.onChange();
  }

  /** @param {Face} face */
  #toggle(face) {
    const rest = this.chosen.filter(({ id }) => id !== face.id);
    return this.#set(rest.length < this.chosen.length ? rest : [...rest, face]);
  }

  draw() {
    const shown = JSON.stringify(this.chosen);
    if (shown === this.#shown) {
      return;
    }
    this.#shown = shown;
    this.list.hidden = this.chosen.length === 0;
    this.list.replaceChildren(
      ...this.chosen.map((face) =>
        h(
          "li",
          { className: "collection-chip" },
          h(
            "span",
            { className: "chip" },
            icon("knowledge"),
            h("span", { className: "chip-name", dir: "auto" }, face.name),
          ),
          iconButton("close", fill(gettext("Remove {name}"), { name: face.name }), () => {
            void this.#toggle(face);
            this.box.focus();
          }),
        ),
      ),
    );
  }

  async #openMenu() {
    const known = await this.#load();
    const chosen = new Set(this.ids);
    openMenu(
      this.button,
      [
        ...known.map((face) => ({
          icon: chosen.has(face.id) ? "check" : "knowledge",
          label: chosen.has(face.id)
            ? fill(gettext("{name} (attached)"), { name: face.name })
            : face.name,
          run: () => {
            void this.#toggle(face);
            this.box.focus();
          },
        })),
        { icon: "folder", label: gettext("Manage collections"), run: this.manage },
      ],
      () => this.button.focus(),
    );
  }

  async #typed() {
    const found = this.#word();
    if (found === null || !allows("knowledge")) {
      this.#close();
      return;
    }
    const known = await this.#load();
    const asked = this.#word();
    if (asked === null) {
      this.#close();
      return;
    }
    const chosen = new Set(this.ids);
    this.#offered = known
      .filter(({ id, name }) => !chosen.has(id) && plain(name).includes(plain(asked)))
      .slice(0, OFFERED);
    this.#active = 0;
    this.#drawOffer();
  }

  /** Return the name that is typed after "#", null if none is. */
  #word() {
    const { selectionStart, selectionEnd, value } = this.box;
    if (selectionStart !== selectionEnd) {
      return null;
    }
    return TYPED.exec(value.slice(Math.max(0, selectionStart - 60), selectionStart))?.[1] ?? null;
  }

  #drawOffer() {
    const { popup, box } = this;
    popup.hidden = this.#offered.length === 0;
    popup.replaceChildren(
      ...this.#offered.map((face, at) => {
        const option = h(
          "div",
          {
            role: "option",
            id: `collection-option-${at}`,
            "aria-selected": String(at === this.#active),
          },
          icon("knowledge"),
          h("span", { dir: "auto" }, face.name),
        );
        // Before the box loses the focus.
        option.addEventListener("pointerdown", (event) => event.preventDefault());
        option.addEventListener("click", () => void this.#take(face));
        return option;
      }),
    );
    if (popup.hidden) {
      box.removeAttribute("aria-activedescendant");
      box.removeAttribute("aria-controls");
    } else {
      box.setAttribute("aria-controls", popup.id);
      box.setAttribute("aria-activedescendant", `collection-option-${this.#active}`);
      popup.children[this.#active]?.scrollIntoView({ block: "nearest" });
    }
  }

  #close() {
    if (this.#offered.length > 0) {
      this.#offered = [];
      this.#drawOffer();
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const count = this.#offered.length;
    if (count === 0 || event.isComposing) {
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.#active = (this.#active + step + count) % count;
      this.#drawOffer();
    } else if ((event.key === "Enter" && !event.shiftKey) || event.key === "Tab") {
      void this.#take(this.#offered[this.#active]);
    } else if (event.key === "Escape") {
      this.#close();
    } else {
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  /** Replace "#name" by the chip of the collection. @param {Face} face */
  async #take(face) {
    const typed = this.#word();
    if (typed !== null) {
      const end = this.box.selectionStart;
      this.box.setRangeText("", end - typed.length - 1, end, "end");
      this.box.dispatchEvent(new Event("input"));
    }
    this.#close();
    this.box.focus();
    await this.#set([...this.chosen, face]);
  }
}
