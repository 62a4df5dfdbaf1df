import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";
import { textsIn } from "../../src/lib/zip.js";

/**
 * A ZIP archive as programs write it.
 * @param {[string, string, boolean][]} files name, text, whether it is packed
 */
function archive(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, text, packed] of files) {
    const title = Buffer.from(name);
    const data = packed ? deflateRawSync(text) : Buffer.from(text);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(title.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(packed ? 8 : 0, 10);
    entry.writeUInt32LE(data.length, 20);
    entry.writeUInt16LE(title.length, 28);
    entry.writeUInt32LE(offset, 42);
    parts.push(local, title, data);
    directory.push(entry, title);
    offset += 30 + title.length + data.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return new Blob([...parts, central, end, Buffer.alloc(0)]);
}

test("only the requested files are read, compressed or not", async () => {
  const blob = archive([
    ["chat.html", "<p>", true],
    ["conversations.json", "[1, 2]".repeat(1000), true],
    ["a/conversations-001.json", "你好", false],
  ]);
  const texts = await textsIn(blob, (name) => name.endsWith(".json"));
  assert.deepEqual(texts, ["[1, 2]".repeat(1000), "你好"]);
});

test("other data is no archive", async () => {
  await assert.rejects(textsIn(new Blob(["x".repeat(100)]), () => true));
});
