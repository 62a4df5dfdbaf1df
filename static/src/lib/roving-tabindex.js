/**
 * Roving tabindex: one tab stop for a list of rows. Up and down move between rows, left and right
 * between the controls of a row.
 */

export class RovingTabindex {
  /**
   * @param {HTMLElement} list
   * @param {string} row selector of the rows
   * @param {string} stops selector of the focusable elements in a row, the main one first
   */
  constructor(list, row, stops) {
    this.list = list;
    this.row = row;
    this.stops = stops;
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("focusin", ({ target }) => this.#stop(/** @type {Element} */ (target)));
  }

  /** Update after the rows have been rendered again. */
  refresh() {
    const all = this.#all;
    const focused = all.find((stop) => stop === document.activeElement);
    const current = all.find((stop) => stop.getAttribute("aria-current"));
    this.#stop(focused ?? current ?? all[0]);
  }

  /** @returns {HTMLElement[]} */
  get #all() {
    const found = this.list.querySelectorAll(`${this.row} :is(${this.stops})`);
    return /** @type {HTMLElement[]} */ ([...found]);
  }

  /** @param {Element | undefined} stop the new tab stop; ignored if not part of a row */
  #stop(stop) {
    if (stop?.matches(`${this.row} :is(${this.stops})`)) {
      for (const other of this.#all) {
        other.tabIndex = other === stop ? 0 : -1;
      }
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || !target.matches(this.stops)) {
      return;
    }
    const row = target.closest(this.row);
    const rows = [...this.list.querySelectorAll(this.row)].filter(
      (one) => /** @type {HTMLElement} */ (one).offsetParent !== null,
    );
    const at = rows.indexOf(/** @type {Element} */ (row));
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 };
    /** @type {Record<string, number>} */
    const within = { ArrowRight: 1, ArrowLeft: -1 };
    const stops = [...(row?.querySelectorAll(this.stops) ?? [])];
    const next =
      event.key in steps
        ? rows[steps[event.key]]?.querySelector(this.stops)
        : stops[stops.indexOf(target) + within[event.key]];
    if (event.key in steps || event.key in within) {
      event.preventDefault();
      /** @type {HTMLElement | undefined} */ (next)?.focus();
    }
  }
}
