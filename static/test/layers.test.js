import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { ESLint } from "eslint";
import { LAYERS, violation } from "../eslint-layers.mjs";

const source = fileURLToPath(new URL("../src/", import.meta.url));
const root = fileURLToPath(new URL("..", import.meta.url));

test("every folder with modules has a layer, and every layer exists", () => {
  const folders = readdirSync(source, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== "icons" && entry.name !== "styles")
    .map(({ name }) => name);
  assert.deepEqual(folders.sort(), LAYERS.flat().sort());
});

test("imports point down", () => {
  assert.equal(violation(`${source}chat/chat.js`, "../lib/dom.js"), null);
  assert.equal(violation(`${source}chat/chat.js`, "./thread.js"), null);
  assert.equal(violation(`${source}app.js`, "./chat/chat.js"), null);
  assert.equal(violation(`${source}markdown/markdown.js`, "markdown-it"), null);
  assert.match(violation(`${source}lib/dom.js`, "../chat/chat.js"), /lib\/ may not import chat/);
  assert.match(violation(`${source}answer/a.js`, "../composer/c.js"), /may not import composer/);
  assert.match(violation(`${source}chat/chat.js`, "../app.js"), /entry point/);
  assert.match(violation(`${source}chat/chat.js`, "../../test/a.js"), /outside/);
  assert.match(violation(`${source}chat/chat.js`, "../new/a.js"), /no layer/);
});

test("eslint refuses imports of every form that point up", async () => {
  const eslint = new ESLint({ cwd: root });
  const code = `
import "../chat/chat.js";
export * from "../chat/chat.js";
export { Chat } from "../chat/chat.js";
export const load = () => import("../chat/chat.js");
/** @typedef {import("../chat/chat.js").Chat} Chat */
`;
  const [{ messages }] = await eslint.lintText(code, { filePath: `${source}lib/example.js` });
  assert.deepEqual(
    messages.filter(({ ruleId }) => ruleId === "page/layers").map(({ line }) => line),
    [2, 3, 4, 5, 6],
  );
});
