/** DOM helpers. Styles are set by classes, never by style attributes (CSP). */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element with properties, attributes (`aria-…`, `data-…`, and any with a dash) and
 * listeners (`onclick`).
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props]
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) {
      continue;
    }
    if (name in element && !name.includes("-")) {
      /** @type {any} */ (element)[name] = value;
    } else {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * Create an icon from the page's sprite (`templates/icons.html`).
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/**
 * @param {string} name of the icon
 * @param {string} label
 * @param {() => void} onclick
 */
export function iconButton(name, label, onclick) {
  return h(
    "button",
    { type: "button", className: "icon-button", title: label, "aria-label": label, onclick },
    icon(name),
  );
}

/**
 * Show or hide an element. Touches the document only if that changes anything.
 * @param {HTMLElement} element
 * @param {boolean} shown
 */
export function show(element, shown) {
  if (element.hidden === shown) {
    element.hidden = !shown;
  }
}

/**
 * Return an element of the template.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) {
    throw new Error(`The page has no #${id}`);
  }
  return element;
}

/**
 * Copy text, also without a secure context, which a plain HTTP intranet address is not.
 * @param {string} text
 */
export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const before = document.activeElement;
  const area = h("textarea", { value: text, className: "sr-only", "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  if (before instanceof HTMLElement) {
    before.focus({ preventScroll: true });
  }
}

/**
 * Copy a text and confirm it on the button.
 * @param {HTMLButtonElement} button
 * @param {string} text
 * @param {string} done text for screen readers
 */
export async function copyFrom(button, text, done) {
  await copyText(text);
  const [label, drawing] = [button.ariaLabel ?? "", button.querySelector("use")];
  const before = drawing?.getAttribute("href") ?? "";
  if (button.dataset.copied) {
    return;
  }
  button.dataset.copied = "true";
  button.ariaLabel = button.title = done;
  drawing?.setAttribute("href", "#i-check");
  setTimeout(() => {
    delete button.dataset.copied;
    button.ariaLabel = button.title = label;
    drawing?.setAttribute("href", before);
  }, 1600);
}

/** Return a random identifier. Unlike `crypto.randomUUID` it needs no secure context. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

/**
 * Return whether an error means that the session has ended. If so, an event makes the page show it
 * in one place, and the caller shows nothing.
 * @param {unknown} error
 */
export function isSignedOut(error) {
  const signedOut = /** @type {any} */ (error)?.code === "not_signed_in";
  if (signedOut) {
    document.dispatchEvent(new Event("signed-out"));
  }
  return signedOut;
}

/**
 * Await work that the server may refuse, and show the error in `notice`.
 * @param {HTMLElement} notice
 * @param {Promise<unknown>} work
 * @returns {Promise<boolean>} whether it succeeded
 */
export async function attempt(notice, work) {
  notice.hidden = true;
  try {
    await work;
    return true;
  } catch (error) {
    if (isSignedOut(error)) {
      return false;
    }
    notice.textContent = error instanceof Error ? error.message : String(error);
    notice.hidden = false;
    return false;
  }
}
