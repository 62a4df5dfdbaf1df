/** The chat page: connects the parts and keeps address, title and focus in sync. */
import { loadMarkdown } from "./answer/answer-body.js";
import { Announcer } from "./answer/announcer.js";
import { Api } from "./server/api.js";
import { Chat } from "./chat/chat.js";
import { commandsOf } from "./shell/commands.js";
import { Composer } from "./composer/composer.js";
import { toError } from "./server/connection.js";
import { Conversations } from "./chat/conversations.js";
import { byId, copyFrom } from "./lib/dom.js";
import { Drafts } from "./composer/drafts.js";
import { onFilesDropped } from "./attachments/drop-target.js";
import { Files } from "./attachments/attachments.js";
import { ConversationActions } from "./sidebar/actions.js";
import { ContextUsage } from "./composer/context-usage.js";
import { fill, gettext } from "./lib/i18n.js";
import { listen } from "./lib/shortcuts.js";
import { refreshNotices, shownNotices, wireNotices } from "./lib/notices.js";
import { followTheme } from "./lib/theme.js";
import { AttachedCollections } from "./composer/attached-collections.js";
import { KnowledgeApi } from "./server/knowledge-api.js";
import { Banner, SidebarFrame, wireSpeed } from "./shell/layout.js";
import { Messages } from "./messages/message-list.js";
import { ModelChoice } from "./models/model-choice.js";
import { Quote } from "./messages/quote.js";
import { Follow } from "./messages/autoscroll.js";
import { markContextStart } from "./messages/context-mark.js";
import { CompareWith } from "./composer/compare-with.js";
import { Sidebar } from "./sidebar/sidebar.js";
import { at, here, socketAt } from "./lib/urls.js";
import { Quotas } from "./shell/quotas.js";
import { setFeatures } from "./lib/features.js";
import { TemporaryMode } from "./shell/temporary-mode.js";
import { Toast } from "./lib/toast.js";
import { Uploads } from "./attachments/uploads.js";
import { Welcome } from "./shell/welcome.js";

loadMarkdown();
/** @type {import("./lib/wire").Boot} */
const boot = JSON.parse(byId("boot").textContent);
setFeatures(boot.features);
const site = document.title;

const api = new Api(boot.csrf);
const conversations = new Conversations(api, boot);
const chat = new Chat({
  api,
  conversations,
  socketUrl: () => socketAt(`/ws/chat/?notices=${shownNotices()}`),
  assistant: () => models.assistant?.id ?? null,
  person: boot.user.name,
});

const frame = new SidebarFrame();
const banner = new Banner(boot.urls.login);
const announcer = new Announcer(byId("live"));
const models = new ModelChoice(
  byId("model"),
  () => {
    chosen();
    contextUsage.update();
    composer.focus();
  },
  () => api.modelDetails(),
  byId("model-note"),
);
const follow = new Follow(byId("scroll"), byId("thread"), byId("jump"));
const drafts = new Drafts(boot.user.name);
const uploads = new Uploads(api, () => models.value);
const messages = new Messages({
  root: byId("thread"),
  scroller: byId("scroll"),
  chat,
  model: () => models.value,
  desk: { drafts, uploads, limits: boot.limits, refuses: refusesFiles },
  newChat: () => go(null),
  onEarlier: () => markContextStart(byId("thread"), chat.thread?.outline() ?? []),
});
const compareWith = new CompareWith(models);
const toast = new Toast();
/** @type {import("./dialogs/comparison.js").Comparison | null} */
let comparison = null;

/** Load the module with the first comparison. */
async function compared() {
  const { Comparison } = await import("./dialogs/comparison.js");
  comparison ??= new Comparison(chat, {
    onClosed: () => composer.focus(),
    onKept: (name) => toast.show(fill(gettext("Continuing with the answer of {name}"), { name })),
  });
  return comparison;
}
const quotas = new Quotas(() => api.quotas());
const welcome = new Welcome((text) => composer.fill(text));
const places = {
  list: byId("files"),
  picker: byId("file-picker"),
  button: byId("attach"),
  box: byId("message"),
};
const files = new Files(places, {
  uploads,
  limits: boot.limits,
  onChange: () => {
    composer.filesChanged();
    contextUsage.update();
  },
  refuses: refusesFiles,
});

/** Why files can't be attached now, "" if they can. */
function refusesFiles() {
  return chat.shownTemporary ? gettext("Files can't be attached in a temporary chat.") : "";
}
onFilesDropped((dropped) => (messages.editor?.files ?? files).add(dropped));
const attached = new AttachedCollections(
  {
    list: byId("collections"),
    button: byId("add-collection"),
    popup: byId("collection-list"),
    box: byId("message"),
  },
  {
    chat,
    load: () => new KnowledgeApi(boot.csrf).collections().then((found) => found.collections),
    onChange: () => contextUsage.update(),
    onProblem: (text) => composer.say(text),
    manage: () => location.assign(at("/knowledge/")),
  },
);
chat.unsavedCollections = () => attached.unsavedIds ?? [];
const contextUsage = new ContextUsage({
  chat,
  model: () => models.value,
  assistant: () => models.assistant?.id ?? null,
  files,
  collections: attached,
  startNewChat: () => {
    const { text } = composer;
    const { attachments } = files;
    composer.clear();
    go(null);
    files.show(attachments);
    composer.filesChanged();
    composer.fill(text);
  },
  onChosen: () => composer.focus(),
});
const composer = new Composer({
  drafts,
  limit: boot.limits.message_chars,
  model: () => models.value,
  send: (text) => {
    const more = { keep_latest: contextUsage.keepsLatest, collections: attached.unsavedIds };
    const [label, others] = [models.label, compareWith.chosen];
    const sent = chat.send(text, models.value, files.attachments, more);
    compareWith.clear();
    sent.catch(() => quotas.refresh());
    if (others.length > 0) {
      sent.then(
        async (accepted) => (await compared()).ask(accepted.assistant_message.id, label, others),
        // The composer shows the reason beside the restored text.
        () => {},
      );
    }
    follow.toEnd();
    return sent;
  },
  stop: () => chat.stop(),
  onText: (text) => contextUsage.counter.setText(text),
  maySend: () => contextUsage.fits,
  files,
});
const temporaryMode = new TemporaryMode(boot.privacy, switchTemporary);
const quote = new Quote(byId("thread"), (text) => composer.quote(text));
const actions = new ConversationActions({
  conversations,
  toast,
  onDeleted: (id) => id === chat.current && go(null),
});
/** @type {import("./dialogs/share.js").Share | null} */
let share = null;

/** @param {string} id of the conversation */
async function openShare(id) {
  const { Share } = await import("./dialogs/share.js");
  share ??= new Share(api);
  share.open(id);
}
const sidebar = new Sidebar({
  conversations,
  actions,
  onOpen: (id) => go(id),
  onAim: (id) => chat.prefetch(id),
  onShare: openShare,
});

/** @type {import("./sidebar/search.js").Search | null} */
let search = null;

/** Load the module when the search box gets the focus. */
async function searching() {
  const { Search } = await import("./sidebar/search.js");
  search ??= new Search({
    api,
    onOpen: (id, message) => go(id, message),
    onShow: () => frame.show(true),
  });
  return search;
}
byId("search").addEventListener("focus", searching);

/**
 * Show a conversation (null: a new one) and set the page's address.
 * @param {string | null} id
 * @param {string | null} [message] to scroll to
 */
async function go(id, message = null) {
  if (id === null) {
    // A new chat replaces the temporary one; another conversation leaves it in the tab.
    chat.discardTemporary();
    if (temporaryMode.forced) {
      goTemporary();
      return;
    }
  }
  const address = id === null ? "/" : `/c/${id}/`;
  if (here() !== address || location.search) {
    history.pushState(null, "", at(address));
  }
  frame.chosen();
  const opened = chat.open(id);
  // The message box is hidden if the conversation can't be shown.
  composer.focus(id === null);
  await opened;
  if (message && chat.current === id) {
    await chat.reveal(message).catch(() => {});
  }
}

/** Show the temporary chat of this tab, or an empty one. */
function goTemporary() {
  if (!temporaryMode.addressed(here())) {
    history.pushState(null, "", at(temporaryMode.address));
  }
  frame.chosen();
  chat.openTemporary();
  composer.focus();
}

/**
 * Switch between a new chat and a temporary one; the typed text stays.
 * @param {boolean} on
 */
function switchTemporary(on) {
  const { text } = composer;
  if (on && (files.attachments.length > 0 || files.busy)) {
    composer.say(gettext("Files can't be attached in a temporary chat. Remove them first."));
    return;
  }
  composer.clear();
  if (on) {
    goTemporary();
  } else {
    go(null);
  }
  composer.fill(text);
}

/** Show what the address names, after a reload or a step in the history. */
function openAddressed() {
  if (temporaryMode.addressed(here())) {
    chat.openTemporary();
    if (temporaryMode.forced) {
      takeOverDraft();
    }
  } else {
    chat.open(addressed());
  }
}

/** Bring text into the message box that was typed before the site stopped saving chats. */
function takeOverDraft() {
  const { text } = drafts.load(null);
  if (text && !composer.text) {
    composer.fill(text);
    drafts.save(null, { text: "" });
  }
}

function addressed() {
  return /^\/c\/([0-9a-f-]{36})\/$/u.exec(here())?.[1] ?? null;
}

function showTitle() {
  const title = conversations.get(chat.current)?.title ?? "";
  document.title = title ? `${title} · ${site}` : site;
  byId("title-text").textContent = title || gettext("Untitled");
  // A conversation that can't be shown has no menu.
  const known = conversations.get(chat.current) !== undefined;
  byId("title").hidden = byId("share-top").hidden = !known;
}

function lastOf(/** @type {string} */ role) {
  return chat.thread?.path().findLast((message) => message.role === role) ?? null;
}

function showThread() {
  messages.render();
  markContextStart(byId("thread"), chat.thread?.outline() ?? []);
  const temporary = chat.shownTemporary;
  const begun = temporary
    ? temporary.thread.messages.size > 0 || chat.outgoing !== null
    : Boolean(chat.thread || chat.outgoing || chat.failure || chat.current);
  byId("main").classList.toggle("empty", !begun);
  byId("welcome").hidden = begun;
  const readOnly = temporaryMode.forced && begun && !temporary;
  byId("composer").hidden = Boolean(chat.failure) || readOnly;
  temporaryMode.show({ on: temporary !== null, begun, unsaved: temporary?.unsaved ?? false });
  composer.showState(chat.openMessage !== null);
  showTitle();
  contextUsage.update();
  announce();
}

function announce() {
  const answer = lastOf("assistant");
  const stream = chat.streams.get(answer?.generation?.id ?? "");
  announcer.follow(answer, stream, messages.contentOf(answer));
}

/** @type {import("./dialogs/import.js").Exchange | null} */
let exchange = null;
let shown = /** @type {string | null | undefined} */ (undefined);

/** Restore a conversation's draft and model once its messages are loaded. */
function showComposer() {
  if (shown !== chat.current && (chat.current === null || chat.thread)) {
    shown = chat.current;
    composer.show(chat.current, lastOf("user")?.content);
    if (lastOf("assistant") === null) {
      models.preferRemembered();
    } else {
      models.prefer(lastOf("assistant")?.generation);
    }
    chosen();
  }
}

/** The chosen model or assistant, or the list of choices, has changed. */
function chosen() {
  welcome.show(models.assistant);
  compareWith.update();
}

chat.addEventListener("open", () => {
  messages.reset();
  sidebar.mark(chat.current);
  showComposer();
  showThread();
  follow.toEnd();
});
chat.addEventListener("thread", () => {
  showComposer();
  showThread();
});
chat.addEventListener("created", () => {
  shown = chat.current;
  composer.rename(chat.current ?? "");
  history.pushState(null, "", at(`/c/${chat.current}/`));
  sidebar.mark(chat.current);
});
chat.addEventListener("found", (event) => {
  const { detail } = /** @type {CustomEvent} */ (event);
  messages.reveal(detail);
  const turn = document.querySelector(`#thread [data-message="${CSS.escape(detail)}"]`);
  if (turn) {
    follow.show(turn);
    turn.classList.add("found");
    setTimeout(() => turn.classList.remove("found"), 2500);
  }
});
chat.addEventListener("compare", async (event) =>
  (await compared()).show(/** @type {CustomEvent<string[]>} */ (event).detail),
);
chat.addEventListener("settled", () => quotas.refresh());
chat.addEventListener("gone", () => go(null));
chat.addEventListener("notices", () => void refreshNotices());
chat.addEventListener("ratings", () => messages.updateRatings());
chat.addEventListener("stream", (event) => {
  messages.updateStream(/** @type {CustomEvent} */ (event).detail);
  announce();
});
chat.addEventListener("status", () => {
  banner.show(chat.connection.status);
  if (chat.connection.status === "open") {
    api.models().then(
      (found) => {
        setFeatures(found.features);
        quotas.show(found.quotas);
        models.show(found);
        chosen();
        contextUsage.update();
      },
      () => {},
    );
  }
});
document.addEventListener("signed-out", () => banner.show("signed-out"));
conversations.addEventListener("change", showTitle);

byId("exchange-open").addEventListener("click", async () => {
  byId("account-menu").hidePopover();
  const { Exchange } = await import("./dialogs/import.js");
  exchange ??= new Exchange({ api, onTaken: () => conversations.refresh() });
  exchange.open();
});
byId("title-button").addEventListener("click", () => {
  const item = conversations.get(chat.current);
  if (item) {
    sidebar.openMenu(byId("title-button"), item);
  }
});
byId("share-top").addEventListener("click", () => chat.current && openShare(chat.current));
byId("new-chat").addEventListener("click", () => go(null));
byId("new-chat-top").addEventListener("click", () => go(null));
byId("thread").addEventListener("click", (/** @type {MouseEvent} */ event) => {
  const button = /** @type {Element} */ (event.target).closest("button.copy-code");
  if (button instanceof HTMLButtonElement) {
    const code = button.parentElement?.querySelector("code")?.textContent ?? "";
    copyFrom(button, code, gettext("Copied"));
  }
});
addEventListener("popstate", openAddressed);
addEventListener("pagehide", () => chat.saveTemporary());
addEventListener("beforeprint", () => messages.showLoaded());
addEventListener("online", () => chat.connection.renew());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    chat.connection.hurry();
  }
});

/**
 * Loaded soon after the first paint, not with the shortcut: keys typed right after the shortcut
 * must reach the palette, and a loaded palette opens within the same event.
 * @type {typeof import("./dialogs/command-palette.js") | null}
 */
let palette = null;

async function loadPalette() {
  palette ??= await import("./dialogs/command-palette.js");
  return palette;
}
setTimeout(loadPalette, 500);

/** @param {(loaded: typeof import("./dialogs/command-palette.js")) => void} use */
function withPalette(use) {
  if (palette) {
    use(palette);
  } else {
    loadPalette().then(use);
  }
}

function openHelp() {
  withPalette((loaded) => loaded.openHelp(commands));
}

const commands = commandsOf({
  chat,
  composer,
  messages,
  quote,
  follow,
  frame,
  newChat: () => go(null),
  temporaryChat: temporaryMode.available ? () => goTemporary() : null,
  search: async () => (await searching()).focus(),
  openPalette: () =>
    withPalette((loaded) =>
      loaded.openPalette({ commands, models: models.entries, conversations, api, open: go }),
    ),
  openHelp,
});
listen(commands);
byId("show-shortcuts").addEventListener("click", () => {
  byId("account-menu").hidePopover();
  openHelp();
});

followTheme();
wireNotices();
wireSpeed();
models.show(boot);
quotas.show(boot.quotas);
const { catalogue } = boot.urls;
/** A smaller default model is the starter model, which only demonstrates the site. */
const STARTER_BYTES = 400e6;
if (
  catalogue &&
  models.models.length > 0 &&
  models.models.every(({ size }) => size < STARTER_BYTES)
) {
  import("./shell/starter-notice.js").then(({ showStarterCard }) => showStarterCard(catalogue));
}
chat.begin(boot.conversation, boot.error ? toError(boot.error) : null);
if (temporaryMode.addressed(here())) {
  chat.openTemporary();
}
if (boot.privacy.reads.length > 0) {
  import("./shell/read-notices.js").then(({ showReadNotices }) =>
    showReadNotices(boot.privacy.reads, api, go),
  );
}
chat.reveal(new URLSearchParams(location.search).get("message") ?? "").catch(() => {});
chat.connection.start();
composer.focus(false);
const asked = new URLSearchParams(location.search).get("collection");
if (asked && chat.current === null) {
  void attached.attach(asked);
}
