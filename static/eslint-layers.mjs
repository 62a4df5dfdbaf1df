/**
 * The folders of `src/` and what each may import: itself, and folders of lower layers. Folders of
 * one layer do not import each other, so no two folders depend on each other. Entry points in
 * `src/` itself may import everything, and nothing imports them.
 */
import { dirname, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

/** From the bottom to the top. */
export const LAYERS = [
  ["lib"],
  ["server", "output", "markdown", "models", "charts"],
  ["attachments", "documents"],
  ["chat"],
  ["answer", "composer", "knowledge", "sidebar"],
  ["messages"],
  ["dialogs"],
  ["shell", "admin"],
];
const SOURCE = fileURLToPath(new URL("src", import.meta.url));
const RANKS = new Map(LAYERS.flatMap((folders, rank) => folders.map((name) => [name, rank])));

/**
 * Return the top folder of a file in `src/`: "" for a file in `src/` itself, null outside of it.
 * @param {string} file
 */
function folderOf(file) {
  const parts = relative(SOURCE, file).split(sep);
  return parts[0] === ".." ? null : parts.length === 1 ? "" : parts[0];
}

/**
 * Return why `file` may not import `specifier`, or null if it may.
 * @param {string} file absolute path of a file in `src/`
 * @param {string} specifier
 */
export function violation(file, specifier) {
  const [from, to] = [folderOf(file), folderOf(resolve(dirname(file), specifier))];
  if (!specifier.startsWith(".") || from === to) {
    return null;
  }
  if (to === null) {
    return `${specifier} is outside of src/.`;
  }
  if (to === "") {
    return `${specifier} is an entry point, which nothing imports.`;
  }
  for (const folder of [from, to]) {
    if (folder && !RANKS.has(folder)) {
      return `The folder ${folder}/ has no layer. Add it to eslint-layers.mjs.`;
    }
  }
  const allowed = from === "" || Number(RANKS.get(to)) < Number(RANKS.get(String(from)));
  return allowed ? null : `${from}/ may not import ${to}/, see LAYERS in eslint-layers.mjs.`;
}

/** Check static and dynamic imports, exports from other modules, and types in comments. */
export const layers = {
  create(context) {
    const check = (node, specifier) => {
      const message = violation(context.filename, specifier);
      if (message) {
        context.report({ loc: node.loc, message });
      }
    };
    const checkSource = (node) => node.source && check(node.source, String(node.source.value));
    return {
      ImportDeclaration: checkSource,
      ImportExpression: checkSource,
      ExportAllDeclaration: checkSource,
      ExportNamedDeclaration: checkSource,
      Program() {
        for (const comment of context.sourceCode.getAllComments()) {
          for (const [, specifier] of comment.value.matchAll(/\bimport\("([^"]+)"\)/gu)) {
            check(comment, specifier);
          }
        }
      },
    };
  },
};
