import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandError, Connection, backOff } from "../../src/server/connection.js";

/** A connection with sockets and a clock that the test controls. */
function setUp() {
  const sockets = [];
  const timers = new Map();
  const events = [];
  const statuses = [];
  let next = 1;
  const connection = new Connection({
    url: () => "ws://here/",
    onEvent: (event) => events.push(event),
    onOpen: () => {},
    onStatus: (status) => statuses.push(status),
    connect: () => {
      const socket = { sent: [], send: (data) => socket.sent.push(JSON.parse(data)) };
      socket.close = () => socket.onclose({ code: 1005 });
      sockets.push(socket);
      return socket;
    },
    clock: {
      setTimeout: (run, ms) => timers.set(next, { run, ms }) && next++,
      clearTimeout: (id) => timers.delete(id),
    },
  });
  const fire = (matches) => {
    for (const [id, timer] of [...timers]) {
      if (matches(timer.ms)) {
        timers.delete(id);
        timer.run();
      }
    }
  };
  const answer = (socket, event) => socket.onmessage({ data: JSON.stringify(event) });
  connection.start();
  return { connection, sockets, timers, events, statuses, fire, answer };
}

const retries = (ms) => ms <= 5000;
const deadlines = (ms) => ms > 5000;

test("a response resolves the command of its id", async () => {
  const { connection, sockets, answer } = setUp();
  sockets[0].onopen();
  const sent = connection.request({ type: "send", content: "x" });
  const { id } = sockets[0].sent[0];
  answer(sockets[0], { type: "accepted", id });
  assert.equal((await sent).type, "accepted");
});

test("a refusal rejects with the server's error", async () => {
  const { connection, sockets, answer } = setUp();
  sockets[0].onopen();
  const sent = connection.request({ type: "send" });
  const error = { code: "queue_full", message: "Too many", permanent: false };
  answer(sockets[0], { type: "error", id: sockets[0].sent[0].id, error });
  await assert.rejects(sent, (refusal) => {
    assert.ok(refusal instanceof CommandError);
    assert.equal(refusal.code, "queue_full");
    assert.equal(refusal.message, "Too many");
    return true;
  });
});

test("a command waits for the socket and is sent once", () => {
  const { connection, sockets } = setUp();
  connection.request({ type: "send" });
  assert.deepEqual(sockets[0].sent, []);
  sockets[0].onopen();
  assert.equal(sockets[0].sent.length, 1);
});

test("a command without response is sent once more with the same id, then rejected", async () => {
  const { connection, sockets, fire } = setUp();
  sockets[0].onopen();
  const sent = connection.request({ type: "send" });
  sockets[0].onclose({ code: 1006 });
  fire(retries);
  sockets[1].onopen();
  assert.deepEqual(sockets[1].sent, sockets[0].sent);
  sockets[1].onclose({ code: 1006 });
  fire(retries);
  sockets[2].onopen();
  assert.deepEqual(sockets[2].sent, []);
  await assert.rejects(sent, { code: "connection_lost" });
});

test("a command without response is rejected after a timeout", async () => {
  const { connection, sockets, fire } = setUp();
  sockets[0].onopen();
  const sent = connection.request({ type: "send" });
  fire(deadlines);
  await assert.rejects(sent, { code: "connection_lost" });
});

test("signed out: no reconnect, and pending commands are rejected", async () => {
  const { connection, sockets, timers, statuses } = setUp();
  sockets[0].onopen();
  const sent = connection.request({ type: "send" });
  sockets[0].onclose({ code: 4401 });
  await assert.rejects(sent, { code: "not_signed_in" });
  await assert.rejects(connection.request({ type: "send" }), { code: "not_signed_in" });
  assert.equal(timers.size, 0);
  assert.deepEqual(statuses, ["open", "signed-out"]);
});

test("posted commands are not queued", () => {
  const { connection, sockets } = setUp();
  connection.post({ type: "ack" });
  sockets[0].onopen();
  assert.deepEqual(sockets[0].sent, []);
});

test("retries back off exponentially, up to a limit", () => {
  assert.ok(backOff(0, 0) >= 100 && backOff(0, 1) <= 200);
  assert.ok(backOff(3, 0) > backOff(0, 1));
  assert.equal(backOff(30, 1), 5000);
});

test("returning to the page reconnects at once", () => {
  const { connection, sockets } = setUp();
  sockets[0].onclose({ code: 1006 });
  connection.hurry();
  assert.equal(sockets.length, 2);
  connection.hurry();
  assert.equal(sockets.length, 2);
});
