/** Selection of rows for an action on several: all at once, the count, and what the action needs. */
import { fill, gettext, number } from "../lib/i18n.js";

/** @param {HTMLFormElement} form */
export function bulkSelection(form) {
  const rows = /** @type {HTMLInputElement[]} */ ([
    ...form.querySelectorAll("tbody input[type=checkbox]"),
  ]);
  const all = /** @type {HTMLInputElement | null} */ (form.querySelector("[data-select-all]"));
  const matching = /** @type {HTMLInputElement | null} */ (
    form.querySelector("[data-select-matching]")
  );
  const status = form.querySelector("[data-selected]");
  const action = /** @type {HTMLSelectElement | null} */ (form.querySelector("[name=action]"));

  function update() {
    const count = rows.filter((row) => row.checked).length;
    if (all) {
      all.checked = count > 0 && count === rows.length;
      all.indeterminate = count > 0 && count < rows.length;
      all.disabled = Boolean(matching?.checked);
    }
    for (const row of rows) {
      row.disabled = Boolean(matching?.checked);
    }
    if (status) {
      status.textContent =
        count > 0 && !matching?.checked
          ? fill(gettext("{count} selected"), { count: number(count) })
          : "";
    }
  }

  function needs() {
    for (const select of form.querySelectorAll("[data-only-for]")) {
      const actions = (select.getAttribute("data-only-for") ?? "").split(" ");
      /** @type {HTMLSelectElement} */ (select).hidden = !actions.includes(action?.value ?? "");
    }
  }

  all?.addEventListener("change", () => {
    for (const row of rows) {
      row.checked = all.checked;
    }
    update();
  });
  form.addEventListener("change", update);
  action?.addEventListener("change", needs);
  update();
  needs();
}
