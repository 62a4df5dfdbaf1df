/** All collections that the user may read, by who owns them. */
import { h } from "../lib/dom.js";
import { bytes, gettext } from "../lib/i18n.js";
import { access, badges, blank, button, documentCount } from "./words.js";

/** @typedef {import("../server/knowledge-api.js").Collection} Collection */

/**
 * Return the collections by who owns them, without empty parts.
 * @param {Collection[]} collections
 */
export function grouped(collections) {
  const own = collections.filter(({ owner, may_manage }) => owner.kind === "user" && may_manage);
  const groups = collections.filter(({ owner }) => owner.kind === "group");
  const rest = collections.filter((one) => !own.includes(one) && !groups.includes(one));
  return [
    { title: gettext("Your collections"), collections: own },
    { title: gettext("Collections of your groups"), collections: groups },
    { title: gettext("Shared with you"), collections: rest },
  ].filter((part) => part.collections.length > 0);
}

/**
 * @param {Collection[]} collections
 * @param {object} desk
 * @param {(collection: string) => void} desk.go
 * @param {(collection: string, folder: string) => string} desk.address
 * @param {() => void} desk.create
 */
export function overview(collections, { go, address, create }) {
  const add = button("new-folder", gettext("New collection"), create, "primary");
  const heading = h("h1", { tabIndex: -1 }, gettext("Knowledge"));
  const lead = h(
    "p",
    { className: "shelf-meta" },
    gettext(
      "Collections of documents that answers can use and cite. Attach one to a chat with # in the message box.",
    ),
  );
  const element = h(
    "div",
    {},
    h(
      "header",
      { className: "shelf-head" },
      heading,
      lead,
      collections.length > 0 ? h("div", { className: "shelf-actions" }, add) : null,
    ),
    ...grouped(collections).map(({ title, collections: found }) =>
      h(
        "section",
        {},
        h("h2", { className: "shelf-section" }, title),
        h("ul", { className: "collections" }, ...found.map((one) => card(one))),
      ),
    ),
    collections.length === 0
      ? blank(
          "knowledge",
          gettext("No collections yet"),
          gettext(
            "Put manuals, contracts or notes into a collection, attach it to a chat, and answers quote them with page numbers. Only you see a new collection until you share it.",
          ),
          add,
        )
      : null,
  );
  return { element, heading };

  /** @param {Collection} collection */
  function card(collection) {
    const { id, name, description, documents, bytes: size } = collection;
    const link = h("a", { href: address(id, ""), dir: "auto" }, name);
    link.onclick = (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
        event.preventDefault();
        go(id);
      }
    };
    return h(
      "li",
      { className: "collection" },
      h("h3", {}, link),
      description
        ? h("p", { className: "collection-description", dir: "auto" }, description)
        : null,
      h("p", { className: "quiet" }, `${documentCount(documents)} · ${bytes(size)}`),
      h(
        "p",
        { className: "collection-state" },
        h("span", { className: "quiet" }, access(collection)),
        ...badges(collection),
      ),
    );
  }
}
