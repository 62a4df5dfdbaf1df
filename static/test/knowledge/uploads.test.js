import assert from "node:assert/strict";
import { test } from "node:test";

// A worker that hashes at once.
globalThis.Worker = class extends EventTarget {
  postMessage({ id }) {
    const event = new Event("message");
    queueMicrotask(() =>
      this.dispatchEvent(Object.assign(event, { data: { id, sha256: "0".repeat(64) } })),
    );
  }
};
const { Uploads } = await import("../../src/knowledge/uploads.js");
const { CommandError } = await import("../../src/server/connection.js");

const file = (size) => ({ size, slice: (from, to) => [from, Math.min(to, size)] });
const ended = (uploads) =>
  new Promise((resolve) =>
    uploads.addEventListener("change", () => {
      if (!uploads.busy) {
        resolve(uploads.items.map(({ state }) => state));
      }
    }),
  );

test("pieces are sent in order, and unchanged files are skipped", async () => {
  const sent = [];
  const uploads = new Uploads({
    begin: async (_, { path }) => ({
      id: path,
      version: 1,
      piece_bytes: 4,
      unchanged: path === "b",
    }),
    piece: async ({ id }, number, data) => sent.push([id, number, ...data]),
    finish: async ({ id }) => sent.push([id, "finished"]),
  });
  const over = ended(uploads);
  uploads.add("c", [
    { file: file(10), path: "a" },
    { file: file(3), path: "b" },
  ]);
  assert.deepEqual(await over, ["done", "unchanged"]);
  assert.deepEqual(sent, [
    ["a", 0, 0, 4],
    ["a", 1, 4, 8],
    ["a", 2, 8, 10],
    ["a", "finished"],
  ]);
});

test("a full collection fails what waits, and a retry uploads it", async () => {
  let full = true;
  const uploads = new Uploads({
    begin: async (_, { path }) => {
      if (full) {
        throw new CommandError("collection_full", "The collection is full.");
      }
      return { id: path, version: 1, piece_bytes: 4, unchanged: true };
    },
  });
  const over = ended(uploads);
  uploads.add(
    "c",
    Array.from({ length: 9 }, (_, at) => ({ file: file(1), path: String(at) })),
  );
  assert.deepEqual(new Set(await over), new Set(["failed"]));
  assert.equal(uploads.items[8].problem, "The collection is full.");
  full = false;
  const again = ended(uploads);
  uploads.retry();
  assert.deepEqual(new Set(await again), new Set(["unchanged"]));
});
