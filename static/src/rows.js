/** How the rows of the list look. What they do is the list's matter, which finds them by data. */
import { ARCHIVE, MAIN } from "./conversations.js";
import { h, icon } from "./dom.js";
import { gettext } from "./i18n.js";

/**
 * @typedef {import("./thread.js").Conversation} Conversation
 * @typedef {import("./conversations.js").Folder} Folder
 */

/**
 * @param {Conversation} item
 * @param {boolean} current
 */
export function row(item, current) {
  const title = item.title || gettext("Untitled");
  const link = h("a", { href: `/c/${item.id}/`, id: `c-${item.id}`, title, dir: "auto" }, title);
  if (current) {
    link.setAttribute("aria-current", "page");
  }
  const options = optionsButton(gettext("Options"));
  options.setAttribute("aria-describedby", link.id);
  return h("li", { "data-id": item.id }, link, options);
}

/**
 * A row while one chooses many.
 * @param {Conversation} item
 * @param {boolean} checked
 */
export function choice(item, checked) {
  const box = h("input", { type: "checkbox", checked });
  const text = h(
    "span",
    { className: "place-name", dir: "auto" },
    item.title || gettext("Untitled"),
  );
  return h("li", { "data-id": item.id }, h("label", { className: "choice" }, box, text));
}

/** More folders than these fold away: one looks for conversations first. */
const FOLDERS_SHOWN = 6;

/**
 * Folders and the archive, above the list.
 * @param {Folder[]} folders
 * @param {boolean} archive whether there is anything in it
 * @param {boolean} all whether all folders are shown, if they are many
 */
export function places(folders, archive, all) {
  const many = folders.length > FOLDERS_SHOWN;
  const shown = many && !all ? folders.slice(0, FOLDERS_SHOWN - 1) : folders;
  const rows = shown.map(({ id, name }) => place(id, "folder", name));
  if (many) {
    const label = all ? gettext("Fewer folders") : gettext("All folders");
    const toggle = h(
      "button",
      { type: "button", className: "row-button", "data-folders": "", "aria-expanded": String(all) },
      icon("more"),
      h("span", { className: "place-name" }, label),
    );
    rows.push(h("li", {}, toggle));
  }
  if (archive) {
    rows.push(place(ARCHIVE, "archive", gettext("Archive")));
  }
  const hidden = rows.length === 0;
  return h("ul", { className: "places", "aria-label": gettext("Folders"), hidden }, ...rows);
}

/**
 * @param {string} view
 * @param {string} drawing
 * @param {string} name
 */
function place(view, drawing, name) {
  const text = h("span", { className: "place-name", dir: "auto" }, name);
  const open = h(
    "button",
    { type: "button", className: "row-button", "data-view": view },
    icon(drawing),
    text,
  );
  const options = drawing === "folder" ? optionsButton(gettext("Folder options")) : null;
  return h("li", { "data-folder": view }, open, options);
}

/** Where one is, and the way back. @param {Folder | undefined} folder none: the archive */
export function heading(folder) {
  const label = gettext("All conversations");
  const back = h(
    "button",
    {
      type: "button",
      className: "icon-button",
      title: label,
      "aria-label": label,
      "data-view": MAIN,
    },
    icon("left"),
  );
  const name = folder ? folder.name : gettext("Archive");
  return h("div", { className: "view-heading" }, back, h("strong", { dir: "auto" }, name));
}

/** @param {string} label */
function optionsButton(label) {
  return h(
    "button",
    {
      type: "button",
      className: "icon-button options",
      title: label,
      "aria-label": label,
      "aria-haspopup": "menu",
      "aria-expanded": "false",
    },
    icon("more"),
  );
}

/** What one conversation can leave as. @param {Conversation} item */
export function exports(item) {
  return [
    { form: "markdown", label: gettext("Markdown, as shown") },
    { form: "json", label: gettext("JSON, with all branches") },
  ].map(({ form, label }) => ({
    icon: "exchange",
    label,
    run: () => {
      const link = h("a", { href: `/chat/export/${item.id}/?form=${form}`, download: "" });
      link.click();
    },
  }));
}
