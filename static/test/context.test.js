import assert from "node:assert/strict";
import { test } from "node:test";
import { firstSeen, reckon } from "../src/context.js";
import { Meter } from "../src/meter.js";

const figures = { context: 100, system: 10, history: 50, attachments: 0, message: 20 };

test("what is used, what is left and what is too much", () => {
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

test("the first message that the last answer was written from", () => {
  const path = [
    message("q1", "user", "one"),
    message("a1", "assistant", "1", made(0)),
    message("q2", "user", "two"),
    message("a2", "assistant", "", made(0)),
    message("q3", "user", "three"),
    message("a3", "assistant", "3", made(2)),
  ];
  assert.equal(firstSeen(path), "q2", "q2 and q3 were joined, since a2 has no text");
  assert.equal(firstSeen(path.slice(0, 2)), null);
  const waiting = message("a4", "assistant", "", made(0, 0));
  assert.equal(firstSeen([...path, message("q4", "user", "four"), waiting]), "q2");
  assert.equal(firstSeen([]), null);
  const syntax = { think_open: "<think>", think_close: "</think>" };
  const thought = message("a2", "assistant", "<think>Well", { ...made(0), syntax });
  assert.equal(firstSeen(path.with(3, thought)), "q2", "nor does its reasoning count as text");
  const said = { ...thought, content: "<think>Well</think>2" };
  assert.equal(firstSeen(path.with(3, said)), "q2");
  assert.equal(
    firstSeen(path.with(3, said).with(5, message("a3", "assistant", "3", made(3)))),
    "a2",
  );
});

/** A meter whose time passes when the test says so. */
function metered() {
  const timers = new Map();
  let next = 0;
  const clock = {
    setTimeout: (run) => {
      timers.set((next += 1), run);
      return next;
    },
    clearTimeout: (id) => timers.delete(id),
  };
  const asked = [];
  const answers = [];
  const meter = new Meter({
    request: (command) => {
      asked.push(command);
      return new Promise((resolve, reject) => answers.push({ resolve, reject }));
    },
    onChange: () => {},
    clock,
  });
  const pass = () => {
    for (const [id, run] of [...timers]) {
      timers.delete(id);
      run();
    }
  };
  const answer = async (values) => {
    answers.shift().resolve({ context: 100, message: 1, estimated: false, ...values });
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { meter, asked, answers, pass, answer };
}

const branch = {
  model: "m",
  assistant: null,
  conversation: null,
  parent: null,
  attachments: ["f"],
};

test("the branch is counted once, what is written after each pause", async () => {
  const { meter, asked, pass, answer } = metered();
  meter.setBranch(branch);
  pass();
  await answer({ system: 10, history: 5, attachments: { f: 7 } });
  assert.equal(asked[0].branch, true);
  assert.equal(meter.figures.attachments, 7);
  meter.setText("a");
  meter.setText("ab");
  pass();
  meter.setText("abc");
  assert.equal(asked.length, 2, "one question at a time");
  await answer({ message: 2 });
  pass();
  await answer({ message: 3 });
  assert.deepEqual(
    asked.slice(1).map(({ content, branch }) => [content, branch]),
    [
      ["ab", undefined],
      ["abc", undefined],
    ],
  );
  assert.equal(meter.figures.message, 3);
  assert.equal(meter.figures.system, 10);
  meter.setBranch({ ...branch }, "");
  pass();
  assert.equal(asked.length, 3, "nothing has changed");
});

test("an answer about another branch is not shown, and a lost one is asked for again", async () => {
  const { meter, asked, answers, pass, answer } = metered();
  meter.setBranch(branch);
  pass();
  meter.setBranch({ ...branch, model: "n" });
  await answer({ system: 10, history: 5 });
  assert.equal(meter.figures, null);
  pass();
  assert.equal(asked[1].model, "n");
  answers.shift().reject(new Error("lost"));
  await new Promise((resolve) => setImmediate(resolve));
  meter.setText("x");
  pass();
  assert.equal(asked[2].branch, true);
  await answer({ system: 1, history: 0, estimated: true });
  meter.setText("xy");
  pass();
  assert.equal(asked[3].branch, true, "an estimate is not kept");
});
