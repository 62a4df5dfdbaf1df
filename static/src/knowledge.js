/** The page of collections: connects the parts, and keeps address and title in sync. */
import { confirm } from "./lib/dialogs.js";
import { attempt, byId, h } from "./lib/dom.js";
import { setFeatures } from "./lib/features.js";
import { fill, gettext, ngettext, number } from "./lib/i18n.js";
import { wireNotices } from "./lib/notices.js";
import { followTheme } from "./lib/theme.js";
import { at, here } from "./lib/urls.js";
import { editCollection } from "./knowledge/collection-dialog.js";
import { CollectionView } from "./knowledge/collection-view.js";
import { dropped } from "./knowledge/dropped.js";
import { grouped, overview } from "./knowledge/overview.js";
import { ShareDialog } from "./knowledge/share-dialog.js";
import { UploadPanel } from "./knowledge/upload-panel.js";
import { Uploads } from "./knowledge/uploads.js";
import { blank } from "./knowledge/words.js";
import { KnowledgeApi } from "./server/knowledge-api.js";
import { Banner, SidebarFrame } from "./shell/layout.js";

/**
 * @typedef {import("./server/knowledge-api.js").Collection} Collection
 * @type {{csrf: string, features: string[], groups: {id: number, name: string}[], login: string}}
 */
const boot = JSON.parse(byId("boot").textContent);
setFeatures(boot.features);
const site = document.title;

const api = new KnowledgeApi(boot.csrf);
const frame = new SidebarFrame();
const banner = new Banner(boot.login);
const uploads = new Uploads(api);
const live = byId("live");
const shelf = byId("shelf");
const panel = new UploadPanel(uploads, say);
const place = h("div", {});
const problem = h("p", { className: "notice error", role: "alert", hidden: true });
shelf.replaceChildren(panel.element, problem, place);

/** @type {Collection[]} */
let collections = [];
/** @type {CollectionView | null} */
let view = null;
let shown = "";

/** @param {string} text */
function say(text) {
  live.textContent = text;
}

/**
 * @param {string} collection id
 * @param {string} folder
 */
function address(collection, folder) {
  const query = folder ? `?${new URLSearchParams({ folder })}` : "";
  return at(`/knowledge/${collection}/${query}`);
}

/**
 * Show a collection, null for all, and set the page's address.
 * @param {string | null} collection
 * @param {string} [folder]
 */
function go(collection, folder = "") {
  history.pushState(null, "", collection ? address(collection, folder) : at("/knowledge/"));
  frame.chosen();
  showAddressed(true);
}

const desk = {
  api,
  uploads,
  go,
  address,
  chatAddress: (/** @type {string} */ id) => at(`/?${new URLSearchParams({ collection: id })}`),
  refresh,
  edit: (/** @type {Collection} */ collection) =>
    editCollection({
      collection,
      groups: [],
      save: async (values) => {
        await api.change(collection.id, values);
        await refresh();
        drawCrumbs();
      },
    }),
  share: (/** @type {Collection} */ collection) => sharing.open(collection),
  remove: removeCollection,
  say,
};
const sharing = new ShareDialog(api, () => void refresh());

function create() {
  /** @type {string | null} */
  let made = null;
  editCollection({
    collection: null,
    groups: boot.groups,
    save: async (values) => {
      made = (await api.create(values)).collection.id;
      await refresh();
    },
    // The dialog returns the focus when it closes.
    onSaved: () => go(made),
  });
}

/** @param {Collection} collection */
async function removeCollection({ id, name, documents }) {
  const text = ngettext(
    "{count} document and its text are deleted for everyone with access. Answers no longer find it. This can't be undone.",
    "All {count} documents and their text are deleted for everyone with access. Answers no longer find them. This can't be undone.",
    documents,
  );
  const title = fill(gettext("Delete {name}?"), { name });
  if (await confirm(title, fill(text, { count: number(documents) }), gettext("Delete"))) {
    if (await attempt(problem, api.remove(id).then(refresh))) {
      say(fill(gettext("{name} was deleted."), { name }));
      go(null);
    }
  }
}

/** Load the collections again, and update what shows them. */
async function refresh() {
  ({ collections } = await api.collections());
  drawLinks();
  const current = collections.find(({ id }) => id === view?.collection.id);
  if (current) {
    view?.show(current);
  }
  return collections;
}

function addressed() {
  const id = /^\/knowledge\/([0-9a-f-]{36})\/$/u.exec(here())?.[1] ?? null;
  return { id, folder: new URLSearchParams(location.search).get("folder") ?? "" };
}

/** @param {boolean} [focus] whether the user has gone there */
function showAddressed(focus = false) {
  const { id, folder } = addressed();
  const found = collections.find((one) => one.id === id) ?? null;
  view?.end();
  view = null;
  shelf.removeAttribute("aria-busy");
  if (found) {
    view = new CollectionView(desk, found, folder);
    place.replaceChildren(view.element);
    if (focus) {
      view.focus();
    }
  } else if (id) {
    const text = gettext(
      "It was deleted, or it is no longer shared with you. Ask its owner for access.",
    );
    place.replaceChildren(blank("warning", gettext("This collection can't be found"), text));
  } else {
    const all = overview(collections, { go, address, create });
    place.replaceChildren(all.element);
    if (focus) {
      all.heading.focus({ preventScroll: true });
    }
  }
  shown = found?.name ?? "";
  document.title = shown ? `${shown} · ${site}` : site;
  byId("scroll").scrollTop = 0;
  drawCrumbs();
  drawLinks();
}

/**
 * @param {string} label
 * @param {string | null} collection
 * @param {string} folder
 */
function link(label, collection, folder) {
  const href = collection ? address(collection, folder) : at("/knowledge/");
  const made = h("a", { href, dir: "auto" }, label);
  made.onclick = (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      go(collection, folder);
    }
  };
  return made;
}

function drawCrumbs() {
  const { id, folder } = addressed();
  const found = collections.find((one) => one.id === id);
  const parts = found && folder ? folder.split("/") : [];
  const steps = [
    ...(found ? [link(gettext("Knowledge"), null, "")] : []),
    ...(parts.length > 0 && found ? [link(found.name, found.id, "")] : []),
    ...parts.slice(0, -1).map((name, depth) => link(name, id, parts.slice(0, depth + 1).join("/"))),
  ];
  byId("crumbs").replaceChildren(h("ol", {}, ...steps.map((step) => h("li", {}, step))));
  byId("crumbs").hidden = steps.length === 0;
}

function drawLinks() {
  const { id } = addressed();
  const lists = grouped(collections).map(({ title, collections: found }) => [
    h("h2", {}, title),
    h(
      "ul",
      {},
      ...found.map((one) => {
        const made = link(one.name, one.id, "");
        if (one.id === id) {
          made.setAttribute("aria-current", "page");
        }
        return h("li", {}, made);
      }),
    ),
  ]);
  const all = link(gettext("All collections"), null, "");
  all.className = "row-button";
  if (id === null) {
    all.setAttribute("aria-current", "page");
  }
  const links = byId("collection-links");
  const focused = links.contains(document.activeElement)
    ? /** @type {HTMLAnchorElement} */ (document.activeElement).href
    : "";
  links.replaceChildren(all, ...lists.flat());
  if (focused) {
    [...links.querySelectorAll("a")].find(({ href }) => href === focused)?.focus();
  }
}

/** Take files and folders that are dropped anywhere on the page of a collection. */
function acceptDrops() {
  const sign = byId("drop");
  const takes = (/** @type {DragEvent} */ event) =>
    Boolean(view?.collection.may_write && event.dataTransfer?.types.includes("Files"));
  addEventListener("dragenter", (event) => {
    sign.hidden = !takes(event);
  });
  addEventListener("dragover", (event) => {
    if (takes(event)) {
      event.preventDefault();
    }
  });
  sign.addEventListener("dragleave", () => {
    sign.hidden = true;
  });
  addEventListener("drop", (event) => {
    sign.hidden = true;
    const target = view;
    if (takes(event) && event.dataTransfer && target) {
      event.preventDefault();
      dropped(event.dataTransfer).then((files) => target.add(files));
    }
  });
}

document.addEventListener("signed-out", () => banner.show("signed-out"));
addEventListener("popstate", () => showAddressed(true));
followTheme();
wireNotices();
acceptDrops();
if (await attempt(problem, refresh())) {
  showAddressed();
}
