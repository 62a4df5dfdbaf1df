import assert from "node:assert/strict";
import { test } from "node:test";
import { Thread } from "../../src/chat/thread.js";

let clock = 0;
const message = (id, parent, role = "user", state = null) => {
  const moment = new Date((clock += 1000)).toISOString();
  const generation = state && { id: `g-${id}`, state, queued_at: moment };
  return { id, parent, role, attachments: [], content: id, created_at: moment, generation };
};

/** q1 → (a1, a2); a2 → q2 → a3 */
function branched() {
  const thread = new Thread("c");
  thread.merge([
    message("q1", null),
    message("a1", "q1", "assistant", "done"),
    message("a2", "q1", "assistant", "done"),
    message("q2", "a2"),
    message("a3", "q2", "assistant", "running"),
  ]);
  return thread;
}

const ids = (messages) => messages.map(({ id }) => id);

test("the head names the branch", () => {
  const thread = branched();
  thread.head = "a1";
  assert.deepEqual(ids(thread.path()), ["q1", "a1"]);
  thread.head = "a3";
  assert.deepEqual(ids(thread.path()), ["q1", "a2", "q2", "a3"]);
});

test("without a head that exists the newest branch is shown", () => {
  const thread = branched();
  assert.deepEqual(ids(thread.path()), ["q1", "a2", "q2", "a3"]);
  thread.head = "deleted";
  assert.deepEqual(ids(thread.path()), ["q1", "a2", "q2", "a3"]);
});

test("alternatives are in order of creation", () => {
  const thread = branched();
  assert.deepEqual(thread.siblings("a2"), ["a1", "a2"]);
  assert.equal(thread.newestLeaf("a2"), "a3");
  assert.equal(thread.newestLeaf("a1"), "a1");
});

test("an answer that has ended does not open again", () => {
  const thread = branched();
  const open = thread.messages.get("a3");
  thread.merge([{ ...open, content: "whole", generation: { id: "g-a3", state: "done" } }]);
  thread.merge([{ ...open, content: "", generation: { id: "g-a3", state: "running" } }]);
  assert.equal(thread.messages.get("a3").content, "whole");
});

test("an answer that is continued opens under its later generation", () => {
  const thread = branched();
  const open = thread.messages.get("a3");
  const made = (id, state, queued_at) => ({ ...open, generation: { id, state, queued_at } });
  const ended = made("g1", "cancelled", "2025-01-01T00:00:01Z");
  thread.merge([ended]);
  thread.merge([made("g2", "queued", "2025-01-01T00:00:02Z")]);
  assert.equal(thread.messages.get("a3").generation.id, "g2");
  thread.merge([ended]);
  assert.equal(thread.messages.get("a3").generation.id, "g2");
});

test("the open answer is that of the shown branch", () => {
  const thread = branched();
  thread.head = "a1";
  assert.equal(thread.openMessage(), null);
  thread.head = "a3";
  assert.equal(thread.openMessage().id, "a3");
});

test("merging the same messages again changes nothing", () => {
  const thread = branched();
  thread.merge([...thread.messages.values()]);
  assert.deepEqual(thread.siblings("a1"), ["a1", "a2"]);
});

/** A branch of n1 … n6 with an alternative to n5, of which only the tree is known. */
function long() {
  const thread = new Thread("c");
  const tree = [1, 2, 3, 4, 5, 6].map((number) => [`n${number}`, number - 2, number % 2 ? 0 : 1]);
  tree.push(["n5b", 3, 0], ["n6b", 6, 5]);
  thread.grow(tree);
  thread.head = "n6";
  return thread;
}
const made = (id, parent) => message(id, parent, "user");

test("of a long branch only the end is loaded, up to the first gap", () => {
  const thread = long();
  assert.deepEqual(thread.path(), []);
  assert.equal(thread.missing(), "n6");
  thread.merge([made("n6", "n5"), made("n5", "n4"), made("n3", "n2")]);
  assert.deepEqual(ids(thread.path()), ["n5", "n6"]);
  assert.equal(thread.missing(), "n4");
  thread.merge([made("n4", "n3"), made("n2", "n1"), made("n1", null)]);
  assert.deepEqual(ids(thread.path()), ["n1", "n2", "n3", "n4", "n5", "n6"]);
  assert.equal(thread.missing(), null);
  assert.equal(thread.missing("n6b"), "n6b");
});

test("alternatives that are not loaded can be chosen", () => {
  const thread = long();
  assert.deepEqual(thread.siblings("n5"), ["n5", "n5b"]);
  assert.equal(thread.newestLeaf("n5b"), "n6b");
});

test("the outline has roles and emptiness of all", () => {
  const thread = long();
  thread.head = "n6b";
  const outline = thread.outline().map(({ role, content }) => [role, content !== ""]);
  assert.deepEqual(outline.slice(-2), [
    ["user", true],
    ["assistant", false],
  ]);
});

test("a tree older than local messages loses nothing", () => {
  const thread = long();
  thread.merge([made("n7", "n6")]);
  thread.grow([["n1", -1, 0]]);
  thread.head = "n7";
  assert.equal(thread.outline().length, 7);
  assert.deepEqual(thread.siblings("n5"), ["n5", "n5b"]);
});
