import assert from "node:assert/strict";
import { test } from "node:test";
import { Announcer } from "../../src/answer/announcer.js";

/** An announcer without a document, and its announcements. */
function listener() {
  const announced = [];
  const announcer = new Announcer(/** @type {any} */ ({}));
  announcer.say = (text) => announced.push(text);
  return { announcer, announced };
}

const message = (id, state, content) => ({
  content,
  generation: { id, state, finish_reason: "stop", error: null, usage: {}, timings: {} },
});

test("an answer is announced by sentences, and its end", () => {
  const { announcer, announced } = listener();
  announcer.follow(message("g", "running", ""), null, "");
  announcer.follow(message("g", "running", ""), null, "One. Two");
  announcer.follow(message("g", "done", "One. Two."), null, "One. Two.");
  assert.deepEqual(announced, ["Reading…", "One.", "Two.", "The answer is complete."]);
});

test("of a continued answer only new text is announced", () => {
  const { announcer, announced } = listener();
  announcer.follow(message("g1", "cancelled", "One. Two"), null, "One. Two");
  announcer.follow(message("g2", "queued", "One. Two"), null, "One. Two");
  announcer.follow(message("g2", "running", "One. Two"), null, "One. Two and three. Four");
  assert.deepEqual(announced, ["and three."]);
});
