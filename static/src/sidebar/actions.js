/** Actions on one or several conversations, with undo where possible. */
import { attempt, byId } from "../lib/dom.js";
import { ask, confirm, openMenu } from "../lib/dialogs.js";
import { fill, gettext, ngettext, number } from "../lib/i18n.js";

/**
 * @typedef {{id: string, folder: string | null, title?: string}} Item
 * @typedef {import("../lib/wire").Conversation} Conversation
 *
 * @typedef {object} Chosen the target of an action: conversations of the list, or all of the view
 * @property {Item[]} items the loaded ones
 * @property {number | null} whole number of conversations in the view; null: only the items
 *
 * @typedef {import("../chat/conversations.js").Action} Action
 */

export class ConversationActions {
  #problem = byId("list-problem");

  /**
   * @param {object} options
   * @param {import("../chat/conversations.js").Conversations} options.conversations
   * @param {import("../lib/toast.js").Toast} options.toast
   * @param {(id: string) => void} options.onDeleted
   */
  constructor({ conversations, toast, onDeleted }) {
    this.conversations = conversations;
    this.toast = toast;
    this.onDeleted = onDeleted;
  }

  /** @param {Promise<unknown>} work which the server may refuse */
  attempt(work) {
    return attempt(this.#problem, work);
  }

  /** @param {Conversation[]} items */
  async pin(items, pinned = true) {
    await this.#do({ items, whole: null }, pinned ? "pin" : "unpin");
  }

  /**
   * @param {Item[]} items
   * @param {boolean} [archived]
   * @param {number | null} [whole] see `Chosen`
   */
  async archive(items, archived = true, whole = null) {
    const count = whole ?? items.length;
    const text = archived
      ? ngettext("Archived", "{count} conversations archived", count)
      : ngettext("Unarchived", "{count} conversations unarchived", count);
    await this.#do({ items, whole }, archived ? "archive" : "unarchive", text, (changed) =>
      this.#do({ items: changed, whole: null }, archived ? "unarchive" : "archive"),
    );
  }

  /**
   * @param {Item[]} items
   * @param {number | null} [whole] see `Chosen`
   * @returns {Promise<boolean>} whether they were deleted
   */
  async remove(items, whole = null) {
    const count = whole ?? items.length;
    const values = { title: items[0].title || gettext("Untitled"), count: number(count) };
    const text = fill(
      count === 1
        ? gettext("“{title}” and its answers will be deleted.")
        : gettext("{count} conversations and their answers will be deleted."),
      values,
    );
    const title = ngettext("Delete this conversation?", "Delete these conversations?", count);
    if (!(await confirm(title, text, gettext("Delete")))) {
      return false;
    }
    const done = ngettext("Deleted", "{count} conversations deleted", count);
    return this.#do({ items, whole }, "delete", done, (changed) =>
      this.#do({ items: changed, whole: null }, "restore"),
    );
  }

  /**
   * Open a menu of folders below a button.
   * @param {HTMLElement} anchor
   * @param {Item[]} items
   * @param {() => void} onDone
   * @param {number | null} [whole] see `Chosen`
   */
  chooseFolder(anchor, items, onDone, whole = null) {
    const { folders } = this.conversations;
    const choices = folders.map(({ id, name }) => ({
      icon: "folder",
      label: name,
      run: () => this.move(items, id, whole).then(onDone),
    }));
    if (items.some(({ folder }) => folder !== null)) {
      const label = gettext("None (remove from folder)");
      choices.push({ icon: "close", label, run: () => this.move(items, null, whole).then(onDone) });
    }
    const label = gettext("New folder…");
    choices.push({
      icon: "new-folder",
      label,
      run: async () => {
        let made = "";
        await ask(gettext("New folder"), gettext("Name"), "", async (name) => {
          made = (await this.conversations.makeFolder(name)).id;
        });
        await (made && this.move(items, made, whole));
        onDone();
      },
    });
    openMenu(anchor, choices, onDone);
  }

  /** @param {import("../lib/wire").Folder} folder */
  async renameFolder({ id, name }) {
    await ask(gettext("Rename the folder"), gettext("Name"), name, (wanted) =>
      this.conversations.renameFolder(id, wanted),
    );
  }

  /** @param {import("../lib/wire").Folder} folder */
  async removeFolder({ id, name }) {
    const text = fill(gettext("The conversations in “{name}” are kept."), { name });
    if (await confirm(gettext("Delete this folder?"), text, gettext("Delete"))) {
      await this.attempt(this.conversations.removeFolder(id));
    }
  }

  /**
   * @param {Item[]} items
   * @param {string | null} folder
   * @param {number | null} [whole] see `Chosen`
   */
  async move(items, folder, whole = null) {
    const name = this.conversations.folders.find(({ id }) => id === folder)?.name;
    const text = name
      ? fill(gettext("Moved to “{name}”"), { name })
      : gettext("Removed from folder");
    await this.#do({ items, whole }, "move", text, (changed) => this.#putBack(changed), folder);
  }

  /** Move each back to its previous folder. @param {Item[]} items */
  async #putBack(items) {
    for (const folder of new Set(items.map((item) => item.folder))) {
      const some = items.filter((item) => item.folder === folder);
      await this.#do({ items: some, whole: null }, "move", "", null, folder);
    }
  }

  /**
   * @param {Chosen} chosen
   * @param {Action} action
   * @param {string} [text] of the toast
   * @param {((changed: Item[]) => void) | null} [undo] gets the previous state
   * @param {string | null} [folder]
   */
  async #do({ items, whole }, action, text = "", undo = null, folder = null) {
    /** @type {Item[]} */
    let changed = items;
    const { conversations } = this;
    const work =
      whole === null
        ? conversations.organise(
            items.map(({ id }) => id),
            action,
            folder,
          )
        : conversations.organiseView(action, folder).then((all) => {
            changed = all;
          });
    const done = await this.attempt(work);
    if (done && action === "delete") {
      changed.forEach(({ id }) => this.onDeleted(id));
    }
    if (done && text) {
      const values = { count: number(changed.length) };
      this.toast.show(fill(text, values), undo && (() => undo(changed)));
    }
    return done;
  }
}
