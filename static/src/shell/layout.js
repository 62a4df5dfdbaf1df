/** Page layout: sidebar as column or drawer, theme, connection banner. */
import { byId, h } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";
import { recall, remember } from "../lib/storage.js";

const narrow = matchMedia("(max-width: 767px)");

/** The sidebar: a collapsible column, on narrow screens a drawer over the page. */
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
      // Overlays above the drawer close first.
      const above = document.querySelector("dialog[open], :popover-open");
      if (event.key === "Escape" && this.#drawer && !event.defaultPrevented && !above) {
        this.show(false);
      }
    });
    narrow.addEventListener("change", () => this.#apply());
    this.#apply();
  }

  /** Close the drawer on a narrow screen, where it covers the conversation. */
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

/** Whether answers show their speed: a checkbox in the account menu. */
export function wireSpeed() {
  /** @type {HTMLInputElement} */
  const box = byId("show-speed");
  const root = document.documentElement;
  box.checked = root.dataset.speed === "shown";
  box.addEventListener("change", () => {
    remember("speed", box.checked ? "shown" : null);
    root.dataset.speed = box.checked ? "shown" : "";
  });
}

/** Delay of the connection banner in ms, so that short interruptions are not shown. */
const PATIENCE = 1000;

export class Banner {
  #element = byId("banner");
  /** @type {any} */
  #timer = null;

  /** @param {string} loginUrl */
  constructor(loginUrl) {
    this.loginUrl = loginUrl;
  }

  /** @param {import("../server/connection.js").Status} status */
  show(status) {
    clearTimeout(this.#timer);
    if (status === "open") {
      this.#element.hidden = true;
    } else if (status === "signed-out") {
      const next = encodeURIComponent(location.pathname);
      const href = `${this.loginUrl}?next=${next}`;
      const link = h("a", { href, className: "button primary" }, gettext("Sign in"));
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
