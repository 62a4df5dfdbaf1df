import assert from "node:assert/strict";
import { test } from "node:test";
import { Chat } from "../../src/chat/chat.js";
import { ARCHIVE, Conversations } from "../../src/chat/conversations.js";
import { CommandError } from "../../src/server/connection.js";

const PAGE = 50;
const NOTHING = { conversations: [], more: false, pinned: [], folders: [], archived: false };

/** Conversations of a server, newest first, with the endpoints that the page uses. */
class Server {
  rows = Array.from({ length: 130 }, (_, index) => ({
    id: `c${String(index).padStart(3, "0")}`,
    title: `t${index}`,
    updated_at: new Date(Date.UTC(2025, 0, 1) - index * 1000).toISOString(),
    folder: null,
    pinned: false,
    archived: false,
    head: null,
  }));
  folders = [];
  requests = [];

  async conversations(view, before = null) {
    this.requests.push(view);
    const found = this.rows.filter(
      ({ archived, folder, updated_at }) =>
        (view === ARCHIVE ? archived : !archived && folder === (view === "main" ? null : view)) &&
        (before === null || updated_at < before.updated_at),
    );
    const page = { conversations: found.slice(0, PAGE), more: found.length > PAGE };
    const { folders } = this;
    return before ? page : { ...NOTHING, counts: {}, ...page, folders: [...folders] };
  }

  async conversation(id) {
    const conversation = this.rows.find((row) => row.id === id);
    if (!conversation) {
      throw new CommandError("not_found", "This conversation does not exist.", true);
    }
    return { conversation, tree: [], messages: [] };
  }

  delete(...ids) {
    this.rows = this.rows.filter(({ id }) => !ids.includes(id));
  }
}

/** A page that shows the first two pages of the list, with a clock that the test controls. */
async function setUp(t, current = null) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new Server();
  const conversations = new Conversations(server, await server.conversations("main"));
  await conversations.loadMore();
  const chat = new Chat({ api: server, conversations, socketUrl: () => "", assistant: () => null });
  if (current !== null) {
    chat.begin(await server.conversation(current), null);
  }
  const gone = [];
  chat.addEventListener("gone", () => gone.push(chat.current));
  const hint = async (conversation, what = "updated") => {
    chat.connection.onEvent({ type: "changed", conversation, what });
    t.mock.timers.tick(1000);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { server, conversations, chat, gone, hint };
}

const shown = (conversations) => conversations.sorted.map(({ id }) => id);

test("a hint of a changed list removes all deleted conversations, as far as it is loaded", async (t) => {
  const { server, conversations, hint } = await setUp(t);
  assert.equal(conversations.sorted.length, 100);
  server.delete(...server.rows.slice(10, 80).map(({ id }) => id));
  await hint(null);
  assert.deepEqual(
    shown(conversations),
    server.rows.map(({ id }) => id),
  );
  assert.equal(conversations.hasMore, false);
});

test("a hint of a changed list keeps the number of loaded conversations", async (t) => {
  const { server, conversations, hint } = await setUp(t);
  server.delete("c000", "c099");
  await hint(null);
  assert.deepEqual(
    shown(conversations),
    server.rows.slice(0, 100).map(({ id }) => id),
  );
  assert.ok(conversations.hasMore);
});

test("views that are not shown are fetched again when they are opened", async (t) => {
  const { server, conversations, hint } = await setUp(t);
  server.rows[3].archived = true;
  await conversations.show(ARCHIVE);
  await conversations.show("main");
  server.rows[4].archived = true;
  await hint(null);
  server.requests.length = 0;
  await conversations.show(ARCHIVE);
  assert.deepEqual(server.requests, [ARCHIVE]);
  assert.deepEqual(shown(conversations), ["c003", "c004"]);
});

test("the main view replaces a folder that was deleted elsewhere", async (t) => {
  const { server, conversations, hint } = await setUp(t);
  server.folders = [{ id: "f", name: "Work" }];
  server.rows[0].folder = "f";
  await conversations.refresh();
  await conversations.show("f");
  server.folders = [];
  server.rows[0].folder = null;
  await hint(null);
  assert.equal(conversations.view, "main");
  assert.deepEqual(shown(conversations).slice(0, 2), ["c000", "c001"]);
});

test("the open conversation is left if it was deleted, and kept otherwise", async (t) => {
  const { server, conversations, gone, hint } = await setUp(t, "c120");
  server.delete("c001");
  await hint(null);
  assert.deepEqual(gone, []);
  assert.equal(conversations.get("c120").title, "t120");
  server.delete("c120");
  await hint(null);
  assert.deepEqual(gone, ["c120"]);
  assert.equal(conversations.get("c120"), undefined);
});

test("a conversation is listed again after its deletion was undone elsewhere", async (t) => {
  const { server, conversations, hint } = await setUp(t);
  const { rows } = server;
  server.delete("c001");
  await hint("c001", "deleted");
  assert.equal(conversations.get("c001"), undefined);
  server.rows = rows;
  await hint("c001");
  assert.equal(conversations.get("c001").title, "t1");
  server.delete("c002");
  await hint("c002", "deleted");
  server.rows = rows;
  await hint(null);
  assert.equal(conversations.get("c002").title, "t2");
});

test("a response that was requested before a deletion does not restore the conversation", async (t) => {
  const { server, conversations, hint } = await setUp(t);
  const stale = conversations.refresh();
  server.delete("c001");
  await hint("c001", "deleted");
  await stale;
  assert.equal(conversations.get("c001"), undefined);
});

test("a chosen version stays while its choice is saved, though the conversation is fetched", async (t) => {
  const { server, chat, hint } = await setUp(t, "c000");
  const message = (id, role, parent, at) => ({
    id,
    conversation: "c000",
    role,
    parent,
    content: id,
    attachments: [],
    generation: null,
    created_at: new Date(at).toISOString(),
  });
  const messages = [message("q", "user", null, 0), message("a1", "assistant", "q", 1)];
  const tree = [
    ["q", -1, 0],
    ["a1", 0, 1],
    ["a2", 0, 1],
  ];
  messages.push(message("a2", "assistant", "q", 2));
  server.rows[0].head = "a2";
  const { conversation } = server;
  server.conversation = async (id) => ({
    ...(await conversation.call(server, id)),
    tree,
    messages,
  });
  let save = () => {};
  server.change = (id, { head }) =>
    new Promise((resolve) => {
      save = () => {
        server.rows[0].head = head;
        resolve();
      };
    });
  await chat.refresh("c000");
  assert.equal(chat.thread.head, "a2");
  const chosen = chat.chooseBranch("a1");
  await new Promise((resolve) => setImmediate(resolve));
  await hint("c000");
  assert.equal(chat.thread.head, "a1");
  save();
  await chosen;
  server.rows[0].head = "a2";
  await hint("c000");
  assert.equal(chat.thread.head, "a2");
});
