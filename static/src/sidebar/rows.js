/** Rows of the sidebar. The sidebar handles their events by data attributes. */
import { ARCHIVE, MAIN } from "../chat/conversations.js";
import { h, icon } from "../lib/dom.js";
import { gettext, number } from "../lib/i18n.js";
import { at } from "../lib/urls.js";

/**
 * @typedef {import("../lib/wire").Conversation} Conversation
 * @typedef {import("../lib/wire").Folder} Folder
 */

/**
 * @param {Conversation} item
 * @param {boolean} current
 */
export function row(item, current) {
  const title = item.title || gettext("Untitled");
  const link = h(
    "a",
    { href: at(`/c/${item.id}/`), id: `c-${item.id}`, title, dir: "auto" },
    title,
  );
  if (current) {
    link.setAttribute("aria-current", "page");
  }
  const options = optionsButton(gettext("Options"));
  options.setAttribute("aria-describedby", link.id);
  return h("li", { "data-id": item.id }, link, options);
}

/**
 * Create a row for selection mode.
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

/** Number of folders that are always shown; further ones are collapsed. */
const FOLDERS_SHOWN = 6;

/**
 * Create the collapsible section of folders above the list.
 * @param {Folder[]} folders
 * @param {Record<string, number>} counts of conversations, by folder
 * @param {{open: boolean, all: boolean}} shown whether the section is open, and whether all
 *   folders are shown if they are many
 */
export function folderSection(folders, counts, { open, all }) {
  const many = folders.length > FOLDERS_SHOWN;
  const shown = many && !all ? folders.slice(0, FOLDERS_SHOWN - 1) : folders;
  const rows = shown.map(({ id, name }) => place(id, "folder", name, counts[id]));
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
  const heading = h(
    "button",
    { type: "button", className: "section-toggle", "data-fold": "", "aria-expanded": String(open) },
    gettext("Folders"),
    h("span", { className: "place-count" }, number(folders.length)),
    icon("chevron"),
  );
  const list = h("ul", { className: "places", "aria-label": gettext("Folders") }, ...rows);
  list.hidden = !open;
  return h("section", { hidden: folders.length === 0 }, h("h2", {}, heading), list);
}

/** Create the archive's entry below the list. @param {number} count of conversations in it */
export function archivePlace(count) {
  const row = place(ARCHIVE, "archive", gettext("Archive"), count);
  return h("ul", { className: "places last", "aria-label": gettext("Archive") }, row);
}

/**
 * @param {string} view
 * @param {string} drawing
 * @param {string} name
 * @param {number} [count]
 */
function place(view, drawing, name, count = 0) {
  const text = h("span", { className: "place-name", dir: "auto" }, name);
  const open = h(
    "button",
    { type: "button", className: "row-button", "data-view": view },
    icon(drawing),
    text,
    count ? h("span", { className: "place-count" }, number(count)) : null,
  );
  const options = drawing === "folder" ? optionsButton(gettext("Folder options")) : null;
  return h("li", { "data-folder": view }, open, options);
}

/** Create the heading of a view. @param {Folder | undefined} folder undefined: the archive */
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

/** Return the export formats of a conversation. @param {Conversation} item */
export function exports(item) {
  return [
    { form: "markdown", label: gettext("Markdown, as shown") },
    { form: "json", label: gettext("JSON, with all branches") },
  ].map(({ form, label }) => ({
    icon: "exchange",
    label,
    run: () => {
      const link = h("a", { href: at(`/chat/export/${item.id}/?form=${form}`), download: "" });
      link.click();
    },
  }));
}
