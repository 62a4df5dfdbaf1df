/** The frame: the list of conversations as column or drawer, the theme, the banner. */
import { byId, h } from "./dom.js";
import { gettext } from "./i18n.js";
import { recall, remember } from "./storage.js";

const narrow = matchMedia("(max-width: 767px)");

/** The list is a column that folds away, or on narrow screens a drawer above the page. */
export class SidebarFrame {
  #sidebar = byId("sidebar");
  #main = byId("main");
  #open = byId("sidebar-open");
  #drawer = false;

  constructor() {
    this.#open.addEventListener("click", () => this.show(true));
    byId("sidebar-close").addEventListener("click", () => this.show(false));
    byId("backdrop").addEventListener("click", () => this.show(false));
    document.addEventListener("keydown", (event) => {
      // What is open above the drawer closes first.
      const above = document.querySelector("dialog[open], :popover-open");
      if (event.key === "Escape" && this.#drawer && !event.defaultPrevented && !above) {
        this.show(false);
      }
    });
    narrow.addEventListener("change", () => this.#apply());
    this.#apply();
  }

  /** On a narrow screen the drawer covers what was chosen in it. */
  chosen() {
    if (this.#drawer) {
      this.#drawer = false;
      this.#apply();
    }
  }

  /** @param {boolean} open */
  show(open) {
    if (narrow.matches) {
      this.#drawer = open;
    } else {
      remember("sidebar", open ? null : "closed");
    }
    this.#apply();
    (open ? byId("sidebar-close") : this.#open).focus();
  }

  #apply() {
    const root = document.documentElement;
    const open = narrow.matches ? this.#drawer : recall("sidebar") !== "closed";
    this.#drawer &&= narrow.matches;
    root.dataset.sidebar = open ? "open" : "closed";
    root.dataset.drawer = String(this.#drawer);
    this.#sidebar.inert = !open;
    this.#main.inert = this.#drawer;
  }
}

/** System, light or dark: three radio buttons in the account menu. */
export function wireTheme() {
  const root = document.documentElement;
  for (const radio of document.querySelectorAll("input[name=theme]")) {
    const input = /** @type {HTMLInputElement} */ (radio);
    input.checked = input.value === (root.dataset.theme ?? "system");
    input.addEventListener("change", () => {
      if (input.value === "system") {
        delete root.dataset.theme;
        remember("theme", null);
      } else {
        root.dataset.theme = input.value;
        remember("theme", input.value);
      }
    });
  }
}

/** Short interruptions are nobody's business: the banner waits this long, in ms. */
const PATIENCE = 1000;

export class Banner {
  #element = byId("banner");
  /** @type {any} */
  #timer = null;

  /** @param {string} loginUrl */
  constructor(loginUrl) {
    this.loginUrl = loginUrl;
  }

  /** @param {import("./connection.js").Status} status */
  show(status) {
    clearTimeout(this.#timer);
    if (status === "open") {
      this.#element.hidden = true;
    } else if (status === "signed-out") {
      const next = encodeURIComponent(location.pathname);
      const link = h("a", { href: `${this.loginUrl}?next=${next}` }, gettext("Sign in"));
      this.#say("error", gettext("You are signed out. Your text is kept."), link);
    } else if (status === "refused") {
      const text = gettext(
        "The server does not accept this page's address. Ask an administrator to add it.",
      );
      this.#say("error", text);
    } else if (this.#element.hidden) {
      this.#timer = setTimeout(() => this.#say("", gettext("Reconnecting…")), PATIENCE);
    }
  }

  /**
   * @param {string} kind
   * @param {...(string | Node)} content
   */
  #say(kind, ...content) {
    this.#element.className = `banner ${kind}`;
    this.#element.replaceChildren(...content.flatMap((part) => [part, " "]));
    this.#element.hidden = false;
  }
}
