/** What one does to conversations in the list, one or many, with a way back where there is one. */
import { attempt, byId } from "./dom.js";
import { ask, confirm, openMenu } from "./dialogs.js";
import { fill, gettext, ngettext, number } from "./i18n.js";

/**
 * @typedef {import("./thread.js").Conversation} Conversation
 * @typedef {import("./conversations.js").Action} Action
 */

export class Filing {
  #problem = byId("list-problem");

  /**
   * @param {object} options
   * @param {import("./conversations.js").Conversations} options.conversations
   * @param {import("./toast.js").Toast} options.toast
   * @param {(id: string) => void} options.onDeleted
   */
  constructor({ conversations, toast, onDeleted }) {
    this.conversations = conversations;
    this.toast = toast;
    this.onDeleted = onDeleted;
  }

  /** @param {Promise<unknown>} work that the server may refuse */
  attempt(work) {
    return attempt(this.#problem, work);
  }

  /** @param {Conversation[]} items */
  async pin(items, pinned = true) {
    await this.#do(items, pinned ? "pin" : "unpin");
  }

  /** @param {Conversation[]} items */
  async archive(items, archived = true) {
    const [action, back] = archived ? ["archive", "unarchive"] : ["unarchive", "archive"];
    const text = archived
      ? ngettext("Archived", "{count} conversations archived", items.length)
      : ngettext("Back in the list", "{count} conversations are back in the list", items.length);
    await this.#do(items, /** @type {Action} */ (action), text, () =>
      this.#do(items, /** @type {Action} */ (back)),
    );
  }

  /** @param {Conversation[]} items @returns {Promise<boolean>} whether they are deleted */
  async remove(items) {
    const values = { title: items[0].title || gettext("Untitled"), count: number(items.length) };
    const one = items.length === 1;
    const text = fill(
      one
        ? gettext("“{title}” and its answers will be deleted.")
        : gettext("{count} conversations and their answers will be deleted."),
      values,
    );
    const title = ngettext(
      "Delete this conversation?",
      "Delete these conversations?",
      items.length,
    );
    if (!(await confirm(title, text, gettext("Delete")))) {
      return false;
    }
    const done = ngettext("Deleted", "{count} conversations deleted", items.length);
    return this.#do(items, "delete", done, () => this.#do(items, "restore"));
  }

  /**
   * Offers the folders below a button.
   * @param {HTMLElement} anchor
   * @param {Conversation[]} items
   * @param {() => void} onDone
   */
  chooseFolder(anchor, items, onDone) {
    const { folders } = this.conversations;
    const choices = folders.map(({ id, name }) => ({
      icon: "folder",
      label: name,
      run: () => this.move(items, id).then(onDone),
    }));
    if (items.some(({ folder }) => folder !== null)) {
      const label = gettext("No folder");
      choices.push({ icon: "close", label, run: () => this.move(items, null).then(onDone) });
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
        await (made && this.move(items, made));
        onDone();
      },
    });
    openMenu(anchor, choices, onDone);
  }

  /** @param {import("./conversations.js").Folder} folder */
  async renameFolder({ id, name }) {
    await ask(gettext("Rename the folder"), gettext("Name"), name, (wanted) =>
      this.conversations.renameFolder(id, wanted),
    );
  }

  /** @param {import("./conversations.js").Folder} folder */
  async removeFolder({ id, name }) {
    const text = fill(gettext("The conversations in “{name}” stay, in the list."), { name });
    if (await confirm(gettext("Delete this folder?"), text, gettext("Delete"))) {
      await this.attempt(this.conversations.removeFolder(id));
    }
  }

  /**
   * @param {Conversation[]} items
   * @param {string | null} folder
   */
  async move(items, folder) {
    const name = this.conversations.folders.find(({ id }) => id === folder)?.name;
    const text = name
      ? fill(gettext("Moved to “{name}”"), { name })
      : gettext("Moved out of its folder");
    await this.#do(items, "move", text, () => this.#putBack(items), folder);
  }

  /** Each to the folder where it was. @param {Conversation[]} items */
  async #putBack(items) {
    for (const folder of new Set(items.map((item) => item.folder))) {
      const some = items.filter((item) => item.folder === folder);
      await this.#do(some, "move", "", null, folder);
    }
  }

  /**
   * @param {Conversation[]} items
   * @param {Action} action
   * @param {string} [text] of the toast
   * @param {(() => void) | null} [undo]
   * @param {string | null} [folder]
   */
  async #do(items, action, text = "", undo = null, folder = null) {
    const ids = items.map(({ id }) => id);
    const done = await this.attempt(this.conversations.organise(ids, action, folder));
    if (done && action === "delete") {
      ids.forEach((id) => this.onDeleted(id));
    }
    if (done && text) {
      this.toast.show(fill(text, { count: number(items.length) }), undo);
    }
    return done;
  }
}
