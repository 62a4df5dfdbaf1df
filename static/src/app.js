/** The chat page: puts the parts together and keeps address, title and focus in step. */
import { loadMarkdown } from "./answer-body.js";
import { Announcer } from "./announce.js";
import { Api } from "./api.js";
import { Chat } from "./chat.js";
import { commandsOf } from "./commands.js";
import { Comparison } from "./comparison.js";
import { Composer } from "./composer.js";
import { CommandError } from "./connection.js";
import { Conversations } from "./conversations.js";
import { byId, copyFrom } from "./dom.js";
import { Drafts } from "./drafts.js";
import { takeDrops } from "./drops.js";
import { Files } from "./files.js";
import { Filing } from "./filing.js";
import { Fullness } from "./fullness.js";
import { gettext } from "./i18n.js";
import { listen } from "./keys.js";
import { Banner, SidebarFrame, wireTheme } from "./layout.js";
import { Messages } from "./messages.js";
import { ModelChoice } from "./models.js";
import { openHelp, openPalette } from "./palette.js";
import { Quote } from "./quote.js";
import { Follow } from "./scroll.js";
import { markSeen } from "./seen.js";
import { Rivals } from "./rivals.js";
import { Search } from "./search.js";
import { Share } from "./share.js";
import { Sidebar } from "./sidebar.js";
import { Toast } from "./toast.js";
import { Uploads } from "./uploads.js";
import { Welcome } from "./welcome.js";

loadMarkdown();
const boot = JSON.parse(byId("boot").textContent);
const site = document.title;

const api = new Api(boot.csrf);
const conversations = new Conversations(api, boot);
const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const chat = new Chat({
  api,
  conversations,
  socketUrl: `${scheme}//${location.host}/ws/chat/`,
  assistant: () => models.assistant?.id ?? null,
});

const frame = new SidebarFrame();
const banner = new Banner(boot.urls.login);
const announcer = new Announcer(byId("live"));
const models = new ModelChoice(byId("model"), () => {
  chosen();
  fullness.update();
  composer.focus();
});
const follow = new Follow(byId("scroll"), byId("thread"), byId("jump"));
const drafts = new Drafts(boot.user.name);
const uploads = new Uploads(api, () => models.value);
const messages = new Messages({
  root: byId("thread"),
  scroller: byId("scroll"),
  chat,
  model: () => models.value,
  desk: { drafts, uploads, limits: boot.limits },
  newChat: () => go(null),
  onEarlier: () => markSeen(byId("thread"), chat.thread?.outline() ?? []),
});
const rivals = new Rivals(models);
const comparison = new Comparison(chat, () => composer.focus());
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
    fullness.update();
  },
  onProblem: (problem) => composer.say(problem),
});
takeDrops((dropped) => (messages.editor?.files ?? files).add(dropped));
const fullness = new Fullness({
  chat,
  model: () => models.value,
  assistant: () => models.assistant?.id ?? null,
  files,
  startAnew: () => {
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
    const more = { keep_latest: fullness.keepsLatest };
    const [label, others] = [models.label, rivals.chosen];
    const sent = chat.send(text, models.value, files.attachments, more);
    rivals.clear();
    if (others.length > 0) {
      sent.then(
        (accepted) => comparison.ask(accepted.assistant_message.id, label, others),
        // Its reason is told where the text returns to.
        () => {},
      );
    }
    follow.toEnd();
    return sent;
  },
  stop: () => chat.stop(),
  onText: (text) => fullness.meter.setText(text),
  mayGo: () => fullness.fits,
  files,
});
const quote = new Quote(byId("thread"), (text) => composer.quote(text));
const filing = new Filing({
  conversations,
  toast: new Toast(),
  onDeleted: (id) => id === chat.current && go(null),
});
const share = new Share(api);
const sidebar = new Sidebar({
  conversations,
  filing,
  onOpen: (id) => go(id),
  onShare: (id) => share.open(id),
});

const search = new Search({
  api,
  onOpen: (id, message) => go(id, message),
  onShow: () => frame.show(true),
});

/**
 * Shows a conversation (null: a new one) under its address.
 * @param {string | null} id
 * @param {string | null} [message] to go to in it
 */
async function go(id, message = null) {
  const address = id === null ? "/" : `/c/${id}/`;
  if (location.pathname !== address) {
    history.pushState(null, "", address);
  }
  frame.chosen();
  const opened = chat.open(id);
  // The box is hidden while there is no conversation to write in.
  composer.focus(id === null);
  await opened;
  if (message && chat.current === id) {
    await chat.reveal(message).catch(() => {});
  }
}

function addressed() {
  return /^\/c\/([0-9a-f-]{36})\/$/u.exec(location.pathname)?.[1] ?? null;
}

function showTitle() {
  const title = conversations.get(chat.current)?.title ?? "";
  document.title = title ? `${title} · ${site}` : site;
  byId("title").textContent = title || gettext("Untitled");
  byId("title").hidden = chat.current === null;
}

function lastOf(/** @type {string} */ role) {
  return chat.thread?.path().findLast((message) => message.role === role) ?? null;
}

function showThread() {
  messages.render();
  markSeen(byId("thread"), chat.thread?.outline() ?? []);
  const begun = Boolean(chat.thread || chat.outgoing || chat.failure || chat.current);
  byId("main").classList.toggle("empty", !begun);
  byId("welcome").hidden = begun;
  byId("composer").hidden = Boolean(chat.failure);
  composer.showState(chat.openMessage !== null);
  showTitle();
  fullness.update();
  announce();
}

function announce() {
  const answer = lastOf("assistant");
  const stream = chat.streams.get(answer?.generation?.id ?? "");
  announcer.follow(answer, stream, messages.said(answer));
}

/** @type {import("./exchange.js").Exchange | null} */
let exchange = null;
let shown = /** @type {string | null | undefined} */ (undefined);

/** A conversation's draft and model come with it, once its messages are known. */
function showComposer() {
  if (shown !== chat.current && (chat.current === null || chat.thread)) {
    shown = chat.current;
    composer.show(chat.current, lastOf("user")?.content);
    if (chat.current === null) {
      models.preferRemembered();
    } else {
      models.prefer(lastOf("assistant")?.generation);
    }
    chosen();
  }
}

/** Another model or assistant is to answer, or others are there to choose. */
function chosen() {
  welcome.show(models.assistant);
  rivals.update();
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
  history.pushState(null, "", `/c/${chat.current}/`);
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
chat.addEventListener("gone", () => go(null));
chat.addEventListener("stream", (event) => {
  messages.updateStream(/** @type {CustomEvent} */ (event).detail);
  announce();
});
chat.addEventListener("status", () => {
  banner.show(chat.connection.status);
  if (chat.connection.status === "open") {
    api.models().then(
      (found) => {
        models.show(found);
        chosen();
        fullness.update();
      },
      () => {},
    );
  }
});
conversations.addEventListener("change", showTitle);

byId("exchange-open").addEventListener("click", async () => {
  byId("account-menu").hidePopover();
  const { Exchange } = await import("./exchange.js");
  exchange ??= new Exchange({ api, onTaken: () => conversations.refresh() });
  exchange.open();
});
byId("new-chat").addEventListener("click", () => go(null));
byId("new-chat-top").addEventListener("click", () => go(null));
byId("thread").addEventListener("click", (/** @type {MouseEvent} */ event) => {
  const button = /** @type {Element} */ (event.target).closest("button.copy-code");
  if (button instanceof HTMLButtonElement) {
    const code = button.parentElement?.querySelector("code")?.textContent ?? "";
    copyFrom(button, code, gettext("Copied"));
  }
});
addEventListener("popstate", () => chat.open(addressed()));
addEventListener("beforeprint", () => messages.showLoaded());
addEventListener("online", () => chat.connection.renew());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    chat.connection.hurry();
  }
});

const commands = commandsOf({
  chat,
  composer,
  messages,
  quote,
  follow,
  frame,
  newChat: () => go(null),
  search: () => search.focus(),
  openPalette: () =>
    openPalette({ commands, models: models.entries, conversations, api, open: go }),
  openHelp: () => openHelp(commands),
});
listen(commands);
byId("show-shortcuts").addEventListener("click", () => {
  byId("account-menu").hidePopover();
  openHelp(commands);
});

wireTheme();
models.show(boot);
chat.begin(boot.conversation, boot.error ? toError(boot.error) : null);
chat.reveal(new URLSearchParams(location.search).get("message") ?? "").catch(() => {});
chat.connection.start();
composer.focus(false);

/** @param {{code: string, message: string, permanent: boolean}} error */
function toError({ code, message, permanent }) {
  return new CommandError(code, message, permanent);
}
