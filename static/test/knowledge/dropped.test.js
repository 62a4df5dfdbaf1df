import assert from "node:assert/strict";
import { test } from "node:test";
import { dropped, sift } from "../../src/knowledge/dropped.js";

const file = (name) => ({ name, webkitRelativePath: "" });
const entry = (path) => ({
  isDirectory: false,
  fullPath: path,
  file: (take) => take(file(path.split("/").at(-1))),
});
const folder = (path, ...parts) => ({
  isDirectory: true,
  fullPath: path,
  // A browser returns the entries in parts, and an empty one at the end.
  createReader: () => ({ readEntries: (take) => take(parts.shift() ?? []) }),
});

test("files of nested folders keep their paths", async () => {
  const inner = folder("/plant/pumps", [entry("/plant/pumps/b.pdf")]);
  const outer = folder("/plant", [entry("/plant/a.md")], [inner]);
  const items = [outer, entry("/c.txt")].map((one) => ({ webkitGetAsEntry: () => one }));
  const found = await dropped({ items, files: [] });
  assert.deepEqual(found.map(({ path }) => path).sort(), [
    "c.txt",
    "plant/a.md",
    "plant/pumps/b.pdf",
  ]);
});

test("files of systems and programs are left out", () => {
  const paths = ["a/.DS_Store", "a/~$b.docx", "a/.git/config", "a/b.docx", ".gitignore"];
  const { files, skipped } = sift(paths.map((path) => ({ path, file: file(path) })));
  assert.deepEqual(
    files.map(({ path }) => path),
    ["a/b.docx", ".gitignore"],
  );
  assert.equal(skipped, 3);
});
