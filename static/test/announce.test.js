import assert from "node:assert/strict";
import { test } from "node:test";
import { Announcer } from "../src/announce.js";

/** An announcer without a document, and what it said. */
function listener() {
  const said = [];
  const announcer = new Announcer(/** @type {any} */ ({}));
  announcer.say = (text) => said.push(text);
  return { announcer, said };
}

const message = (id, state, content) => ({
  content,
  generation: { id, state, finish_reason: "stop", error: null, usage: {}, timings: {} },
});

test("an answer is said by sentences, and its end", () => {
  const { announcer, said } = listener();
  announcer.follow(message("g", "running", ""), null, "");
  announcer.follow(message("g", "running", ""), null, "One. Two");
  announcer.follow(message("g", "done", "One. Two."), null, "One. Two.");
  assert.deepEqual(said, ["Thinking…", "One.", "Two.", "The answer is complete."]);
});

test("of an answer that is continued only what is new is said", () => {
  const { announcer, said } = listener();
  announcer.follow(message("g1", "cancelled", "One. Two"), null, "One. Two");
  announcer.follow(message("g2", "queued", "One. Two"), null, "One. Two");
  announcer.follow(message("g2", "running", "One. Two"), null, "One. Two and three. Four");
  assert.deepEqual(said, ["and three."]);
});
