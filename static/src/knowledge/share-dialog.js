/** The dialog that shares a collection with users and groups. Each change is saved at once. */
import { attempt, byId, h, icon, iconButton } from "../lib/dom.js";
import { fill, gettext } from "../lib/i18n.js";

/**
 * @typedef {import("../server/knowledge-api.js").Share} Share
 * @typedef {Omit<Share, "may_write">} Face
 */

const PATIENCE_MS = 200;

export class ShareDialog {
  /** @type {HTMLDialogElement} */
  #dialog = byId("sharing");
  /** @type {HTMLInputElement} */
  #search = byId("sharing-search");
  #found = byId("sharing-found");
  #list = byId("sharing-list");
  #problem = byId("sharing-problem");
  #status = byId("sharing-status");
  #id = "";
  /** @type {Share[]} */
  #shares = [];
  /** @type {Face[]} */
  #faces = [];
  #active = -1;
  /** @type {any} */
  #timer = null;
  #asked = 0;
  #changed = false;

  /**
   * @param {import("../server/knowledge-api.js").KnowledgeApi} api
   * @param {() => void} onChanged called when the dialog closes after a change
   */
  constructor(api, onChanged) {
    this.api = api;
    byId("sharing-close").onclick = () => this.#dialog.close();
    this.#dialog.addEventListener("close", () => this.#changed && onChanged());
    this.#search.addEventListener("input", () => this.#searchLater());
    this.#search.addEventListener("keydown", (event) => this.#key(event));
    // Escape closes the list first.
    this.#dialog.addEventListener("cancel", (event) => {
      if (!this.#found.hidden) {
        event.preventDefault();
        this.#offer([]);
      }
    });
  }

  /** @param {{id: string, name: string}} collection */
  async open({ id, name }) {
    this.#id = id;
    this.#shares = [];
    this.#changed = false;
    this.#search.value = "";
    this.#status.textContent = "";
    this.#offer([]);
    this.#draw();
    byId("sharing-title").textContent = fill(gettext("Share “{name}”"), { name });
    this.#dialog.showModal();
    await attempt(
      this.#problem,
      this.api.shares(id).then(({ shares }) => this.#take(shares)),
    );
  }

  /** @param {Share[]} shares */
  #take(shares) {
    this.#shares = shares;
    this.#draw();
  }

  /**
   * @param {Share[]} shares
   * @param {string} said
   */
  async #save(shares, said) {
    const saved = await attempt(
      this.#problem,
      this.api.setShares(this.#id, shares).then((answer) => this.#take(answer.shares)),
    );
    if (saved) {
      this.#changed = true;
      this.#status.textContent = said;
    } else {
      this.#draw();
    }
  }

  #draw() {
    const none = h(
      "li",
      { className: "quiet" },
      gettext("Nobody else has access. Search for a user or a group above."),
    );
    const rows = this.#shares.map((share) => this.#row(share));
    this.#list.replaceChildren(...(rows.length > 0 ? rows : [none]));
  }

  /** @param {Share} share */
  #row(share) {
    const { name } = share;
    const rights = h(
      "select",
      { "aria-label": fill(gettext("Access of {name}"), { name }) },
      h("option", { value: "read" }, gettext("Can read")),
      h("option", { value: "write" }, gettext("Can edit")),
    );
    rights.value = share.may_write ? "write" : "read";
    rights.onchange = () => {
      const may_write = rights.value === "write";
      const changed = this.#shares.map((one) => (one === share ? { ...share, may_write } : one));
      this.#save(changed, fill(gettext("Access of {name} changed."), { name }));
    };
    const remove = iconButton("close", fill(gettext("Remove access of {name}"), { name }), () => {
      const rest = this.#shares.filter((one) => one !== share);
      this.#save(rest, fill(gettext("{name} no longer has access."), { name }));
      this.#search.focus();
    });
    return h("li", {}, face(share), rights, remove);
  }

  #searchLater() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#find(), PATIENCE_MS);
  }

  async #find() {
    const text = this.#search.value.trim();
    this.#asked += 1;
    const asked = this.#asked;
    if (!text) {
      this.#offer([]);
      return;
    }
    await attempt(
      this.#problem,
      this.api.people(text).then(({ people }) => {
        if (asked === this.#asked) {
          const known = new Set(this.#shares.map(({ kind, id }) => `${kind} ${id}`));
          this.#offer(
            people.filter(({ kind, id }) => !known.has(`${kind} ${id}`)),
            true,
          );
        }
      }),
    );
  }

  /**
   * @param {Face[]} faces
   * @param {boolean} [searched] whether an empty list means that nobody was found
   */
  #offer(faces, searched = false) {
    this.#faces = faces;
    this.#active = faces.length > 0 ? 0 : -1;
    this.#found.hidden = faces.length === 0;
    this.#search.setAttribute("aria-expanded", String(faces.length > 0));
    this.#status.textContent =
      searched && faces.length === 0 ? gettext("No user or group found.") : "";
    this.#status.classList.toggle("sr-only", !searched || faces.length > 0);
    this.#found.replaceChildren(
      ...faces.map((one, at) => {
        const option = h(
          "div",
          { role: "option", id: `sharing-option-${at}`, "aria-selected": "false" },
          face(one),
        );
        // Before the box loses the focus.
        option.addEventListener("pointerdown", (event) => event.preventDefault());
        option.addEventListener("click", () => this.#add(one));
        return option;
      }),
    );
    this.#mark();
  }

  #mark() {
    for (const [at, option] of [...this.#found.children].entries()) {
      option.setAttribute("aria-selected", String(at === this.#active));
    }
    if (this.#active < 0) {
      this.#search.removeAttribute("aria-activedescendant");
    } else {
      this.#search.setAttribute("aria-activedescendant", `sharing-option-${this.#active}`);
      this.#found.children[this.#active]?.scrollIntoView({ block: "nearest" });
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const count = this.#faces.length;
    if (step && count > 0) {
      event.preventDefault();
      this.#active = (this.#active + step + count) % count;
      this.#mark();
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (this.#faces[this.#active]) {
        this.#add(this.#faces[this.#active]);
      }
    }
  }

  /** @param {Face} one */
  #add(one) {
    this.#search.value = "";
    this.#offer([]);
    const said = fill(gettext("{name} can read the collection."), { name: one.name });
    this.#save([...this.#shares, { ...one, may_write: false }], said);
  }
}

/** @param {Face} one */
function face({ kind, name }) {
  const label = kind === "group" ? gettext("Group") : gettext("User");
  return h(
    "span",
    { className: "face" },
    kind === "group" ? icon("people") : avatar(name),
    h("span", { className: "face-name", dir: "auto" }, name),
    h("span", { className: "quiet" }, label),
  );
}

/** @param {string} name */
function avatar(name) {
  return h(
    "span",
    { className: "avatar", "aria-hidden": "true" },
    [...name][0]?.toUpperCase() ?? "",
  );
}
