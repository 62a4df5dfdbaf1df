import assert from "node:assert/strict";
import { test } from "node:test";
import { firstInContext, reckon } from "../../src/chat/context.js";

const figures = { context: 100, system: 10, history: 50, attachments: 0, message: 20 };

test("used, free and excess tokens", () => {
  assert.deepEqual(reckon(figures), { used: 80, room: 20, over: 0, tight: false, share: 0.8 });
  const full = reckon({ ...figures, message: 40 });
  assert.deepEqual([full.over, full.room, full.tight], [1, 0, true]);
  assert.equal(reckon({ ...figures, message: 39 }).over, 0);
});

const message = (id, role, content, generation = null) => ({
  ...{ id, role, content, generation },
  attachments: [],
});
const made = (left_out, prompt_tokens = 9) => ({ left_out, usage: { prompt_tokens } });

test("the first message in the last answer's prompt", () => {
  const path = [
    message("q1", "user", "one"),
    message("a1", "assistant", "1", made(0)),
    message("q2", "user", "two"),
    message("a2", "assistant", "", made(0)),
    message("q3", "user", "three"),
    message("a3", "assistant", "3", made(2)),
  ];
  assert.equal(firstInContext(path), "q2", "q2 and q3 were joined, since a2 has no text");
  assert.equal(firstInContext(path.slice(0, 2)), null);
  const waiting = message("a4", "assistant", "", made(0, 0));
  assert.equal(firstInContext([...path, message("q4", "user", "four"), waiting]), "q2");
  assert.equal(firstInContext([]), null);
  const syntax = { think_open: "<think>", think_close: "</think>" };
  const thought = message("a2", "assistant", "<think>Well", { ...made(0), syntax });
  assert.equal(firstInContext(path.with(3, thought)), "q2", "nor does its reasoning count as text");
  const said = { ...thought, content: "<think>Well</think>2" };
  assert.equal(firstInContext(path.with(3, said)), "q2");
  assert.equal(
    firstInContext(path.with(3, said).with(5, message("a3", "assistant", "3", made(3)))),
    "a2",
  );
});
