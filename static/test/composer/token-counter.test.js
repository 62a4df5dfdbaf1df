import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenCounter } from "../../src/composer/token-counter.js";

/** A token counter with a manual clock. */
function counterWithClock() {
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
  const counter = new TokenCounter({
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
  return { counter, asked, answers, pass, answer };
}

const branch = {
  model: "m",
  assistant: null,
  conversation: null,
  parent: null,
  attachments: ["f"],
};

test("the branch is counted once, the text after each pause", async () => {
  const { counter, asked, pass, answer } = counterWithClock();
  counter.setBranch(branch);
  pass();
  await answer({ system: 10, history: 5, attachments: { f: 7 } });
  assert.equal(asked[0].branch, true);
  assert.equal(counter.figures.attachments, 7);
  counter.setText("a");
  counter.setText("ab");
  pass();
  counter.setText("abc");
  assert.equal(asked.length, 2, "one request at a time");
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
  assert.equal(counter.figures.message, 3);
  assert.equal(counter.figures.system, 10);
  counter.setBranch({ ...branch }, "");
  pass();
  assert.equal(asked.length, 3, "nothing has changed");
});

test("a response for another branch is not shown, and a lost one is requested again", async () => {
  const { counter, asked, answers, pass, answer } = counterWithClock();
  counter.setBranch(branch);
  pass();
  counter.setBranch({ ...branch, model: "n" });
  await answer({ system: 10, history: 5 });
  assert.equal(counter.figures, null);
  pass();
  assert.equal(asked[1].model, "n");
  answers.shift().reject(new Error("lost"));
  await new Promise((resolve) => setImmediate(resolve));
  counter.setText("x");
  pass();
  assert.equal(asked[2].branch, true);
  await answer({ system: 1, history: 0, estimated: true });
  counter.setText("xy");
  pass();
  assert.equal(asked[3].branch, true, "an estimate is not kept");
});
