import assert from "node:assert/strict";
import { test } from "node:test";
import { delayText } from "../../src/answer/status-text.js";
import { Stream } from "../../src/chat/stream.js";
import { Streams } from "../../src/chat/streams.js";

const delta = (start, end, text) => ({ type: "delta", generation: "g", start, end, text });

test("text is applied where it belongs, once", () => {
  const stream = new Stream("g");
  assert.equal(stream.apply(delta(0, 2, "ab")), "applied");
  assert.equal(stream.apply(delta(0, 2, "ab")), "duplicate");
  assert.equal(stream.apply(delta(2, 3, "c")), "applied");
  assert.equal(stream.text, "abc");
  assert.equal(stream.cursor, 3);
});

test("a gap changes nothing", () => {
  const stream = new Stream("g");
  stream.apply(delta(0, 1, "a"));
  assert.equal(stream.apply(delta(2, 3, "c")), "gap");
  assert.equal(stream.text, "a");
  assert.equal(stream.cursor, 1);
});

test("a range that overlaps what we have can't be cut, so it is a gap", () => {
  const stream = new Stream("g");
  stream.apply(delta(0, 2, "ab"));
  assert.equal(stream.apply(delta(1, 4, "bcd")), "gap");
  assert.equal(stream.text, "ab");
});

test("nothing is applied after the end", () => {
  const stream = new Stream("g");
  stream.apply(delta(0, 1, "a"));
  assert.equal(stream.end(1, "a"), "ended");
  assert.equal(stream.apply(delta(1, 2, "b")), "duplicate");
  assert.equal(stream.text, "a");
});

test("the saved text wins over what was streamed", () => {
  const stream = new Stream("g");
  stream.apply(delta(0, 1, "a "));
  assert.equal(stream.end(1, "a"), "ended");
  assert.equal(stream.text, "a");
});

test("it acknowledges after much text or some time, and never without text", () => {
  const stream = new Stream("g");
  assert.equal(stream.shouldAcknowledge(5000), false);
  stream.apply(delta(0, 1, "a"));
  assert.equal(stream.shouldAcknowledge(5000), true);
  stream.apply(delta(1, 2, "b"));
  assert.equal(stream.shouldAcknowledge(5500), false);
  assert.equal(stream.shouldAcknowledge(6000), true);
  stream.apply(delta(2, 3, "x".repeat(16 * 1024)));
  assert.equal(stream.shouldAcknowledge(6001), true);
});

/** A page's side of the socket, with a manual clock. */
function page() {
  const posted = [];
  const ended = [];
  const changed = [];
  const clock = { now: 0 };
  const streams = new Streams({
    post: (command) => posted.push(command),
    onChange: (stream) => changed.push(stream.silent),
    onEnd: (stream, message) => ended.push([stream.id, message.content]),
    now: () => clock.now,
    every: () => 0,
  });
  return { streams, posted, ended, changed, clock };
}

const subscriptions = (posted) =>
  posted.filter(({ type }) => type === "subscribe").map(({ cursor }) => cursor);

test("a gap asks once from the cursor, however many ranges show it", () => {
  const { streams, posted } = page();
  streams.follow("g", true);
  streams.handle(delta(0, 1, "a"));
  streams.handle(delta(2, 3, "c"));
  streams.handle(delta(3, 4, "d"));
  assert.deepEqual(subscriptions(posted), [1]);
  streams.handle(delta(1, 4, "bcd"));
  assert.equal(streams.get("g").text, "abcd");
  streams.handle(delta(5, 6, "f"));
  assert.deepEqual(subscriptions(posted), [1, 4]);
});

test("an unanswered request for missing text is repeated after a while", () => {
  const { streams, posted, clock } = page();
  streams.follow("g", true);
  streams.handle(delta(1, 2, "b"));
  clock.now = 10_000;
  streams.handle(delta(2, 3, "c"));
  assert.deepEqual(subscriptions(posted), [0, 0]);
});

test("after a reconnect every open answer continues from its cursor", () => {
  const { streams, posted } = page();
  streams.follow("g");
  streams.handle(delta(0, 2, "ab"));
  streams.follow("h", true);
  streams.handle({ type: "ended", generation: "h", cursor: 0, message: { content: "" } });
  posted.length = 0;
  streams.followAgain();
  assert.deepEqual(posted, [{ type: "subscribe", generation: "g", cursor: 2 }]);
  streams.handle(delta(0, 2, "ab"));
  streams.handle(delta(2, 3, "c"));
  assert.equal(streams.get("g").text, "abc");
});

test("an end ahead of the cursor requests the missing text first", () => {
  const { streams, posted, ended } = page();
  streams.follow("g", true);
  streams.handle(delta(0, 1, "a"));
  const end = { type: "ended", generation: "g", cursor: 3, message: { content: "abc" } };
  streams.handle(end);
  assert.deepEqual(subscriptions(posted), [1]);
  assert.deepEqual(ended, []);
  streams.handle(delta(1, 3, "bc"));
  streams.handle(end);
  assert.deepEqual(ended, [["g", "abc"]]);
});

test("when the stream has expired the saved text is taken", () => {
  const { streams, ended } = page();
  streams.follow("g", true);
  const end = { type: "ended", generation: "g", cursor: 3, message: { content: "abc" } };
  streams.handle(end);
  streams.handle(end);
  assert.deepEqual(ended, [["g", "abc"]]);
  assert.equal(streams.get("g").text, "abc");
});

test("a message after a stop waits for the end of the answer", async () => {
  const { streams, ended } = page();
  streams.follow("g", true);
  streams.handle(delta(0, 1, "a"));
  streams.stop("g");
  let passed = false;
  const waiting = streams.stopped("g").then(() => (passed = true));
  await Promise.resolve();
  assert.equal(passed, false);
  streams.handle(delta(1, 2, "b"));
  streams.handle({ type: "ended", generation: "g", cursor: 2, message: { content: "ab" } });
  await waiting;
  assert.deepEqual(ended, [["g", "ab"]]);
  await streams.stopped("g");
});

test("duplicates in any order result in the same text", () => {
  const ranges = [..."abcdefgh"].map((letter, at) => delta(at, at + 1, letter));
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let round = 0; round < 200; round += 1) {
    const { streams, posted } = page();
    streams.follow("g");
    for (let step = 0; step < 30; step += 1) {
      streams.handle(ranges[Math.floor(random() * ranges.length)]);
      const text = streams.get("g").text;
      assert.ok("abcdefgh".startsWith(text));
    }
    for (const range of ranges.slice(streams.get("g").cursor)) {
      streams.handle(range);
    }
    assert.equal(streams.get("g").text, "abcdefgh");
    assert.ok(posted.every(({ type }) => type === "subscribe" || type === "ack"));
  }
});

test("page 9: three seconds without an event are silence, and any event ends it", () => {
  const { streams, changed, clock } = page();
  const stream = streams.follow("g");
  clock.now = 2900;
  streams.handle({ type: "alive", generation: "g" });
  clock.now = 5800;
  streams.look();
  assert.deepEqual([stream.silent, changed], [false, []]);
  clock.now = 5901;
  streams.look();
  streams.look();
  assert.deepEqual([stream.silent, changed], [true, [true]]);
  assert.match(delayText(stream), /slow to answer/);
  streams.handle({ type: "alive", generation: "g" });
  assert.deepEqual([stream.silent, changed], [false, [true, false]]);
  assert.equal(delayText(stream), "");
});

test("page 9: an answer whose model restarts says so until its text continues", () => {
  const { streams } = page();
  streams.handle(delta(0, 1, "a"));
  const stream = streams.get("g");
  assert.equal(delayText(stream), "");
  streams.handle({ type: "waiting", generation: "g", ahead: 0, model: "loading" });
  assert.match(delayText(stream), /restarting/);
  streams.handle(delta(1, 2, "b"));
  assert.equal(delayText(stream), "");
});

test("an answer that the server no longer sends is subscribed again, ever more rarely", () => {
  const { streams, posted, clock } = page();
  streams.follow("g", true);
  streams.handle(delta(0, 2, "ab"));
  posted.length = 0;
  const asked = [];
  for (clock.now = 0; clock.now <= 90_000; clock.now += 500) {
    const before = posted.length;
    streams.look();
    if (posted.length > before) {
      asked.push(clock.now);
    }
  }
  assert.deepEqual(asked, [10_000, 20_000, 40_000, 80_000]);
  assert.deepEqual(subscriptions(posted), [2, 2, 2, 2]);
  streams.handle(delta(2, 3, "c"));
  clock.now += 9_000;
  streams.look();
  assert.equal(subscriptions(posted).length, 4);
  clock.now += 1_000;
  streams.look();
  assert.equal(subscriptions(posted).length, 5);
});

test("page 9: an answer that has ended is never silent", () => {
  const { streams, clock } = page();
  streams.follow("g");
  streams.settle("g", "all");
  clock.now = 60_000;
  streams.look();
  assert.equal(streams.get("g").silent, false);
});
