/** The dialog that creates a collection, or changes its name and description. */
import { attempt, byId, h } from "../lib/dom.js";
import { gettext } from "../lib/i18n.js";

/**
 * @param {object} options
 * @param {{name: string, description: string} | null} options.collection null for a new one
 * @param {{id: number, name: string}[]} options.groups that may own a new one
 * @param {(values: {name: string, description: string, group?: number}) => Promise<unknown>}
 *   options.save rejects if the server refuses
 * @param {() => void} [options.onSaved] called after the dialog has closed
 */
export function editCollection({ collection, groups, save, onSaved }) {
  /** @type {HTMLDialogElement} */
  const dialog = byId("collection-dialog");
  const [name, description] = [byId("collection-name"), byId("collection-description")];
  const owner = byId("collection-owner");
  const problem = byId("collection-problem");
  const isNew = collection === null;
  byId("collection-title").textContent = isNew
    ? gettext("New collection")
    : gettext("Edit collection");
  byId("collection-save").textContent = isNew ? gettext("Create") : gettext("Save");
  name.value = collection?.name ?? "";
  description.value = collection?.description ?? "";
  byId("collection-owner-field").hidden = !isNew || groups.length === 0;
  owner.replaceChildren(
    h("option", { value: "" }, gettext("Only you")),
    ...groups.map((group) => h("option", { value: String(group.id) }, group.name)),
  );
  problem.hidden = true;
  byId("collection-cancel").onclick = () => dialog.close();
  byId("collection-form").onsubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const values = { name: name.value.trim(), description: description.value.trim() };
    const group = owner.value && isNew ? { group: Number(owner.value) } : {};
    if (values.name && (await attempt(problem, save({ ...values, ...group })))) {
      dialog.close();
      onSaved?.();
    }
  };
  dialog.showModal();
  name.select();
}
