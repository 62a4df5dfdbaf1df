// Bundles the page: `src/` to `dist/`, which Django collects.
//
// Entry points keep their names, since Django's manifest storage hashes them. Chunks that are
// loaded later carry esbuild's hash and are imported by that name, which the storage keeps.
import { cp, mkdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const watching = process.argv.includes("--watch");
const common = {
  bundle: true,
  charset: "utf8",
  legalComments: "linked",
  logLevel: "info",
  minify: !watching,
  outdir: here("dist"),
  target: ["es2022", "chrome123", "firefox120", "safari17.5"],
};

const builds = [
  {
    ...common,
    entryPoints: [
      "app.js",
      "admin.js",
      "hash-worker.js",
      "knowledge.js",
      "overview.js",
      "shared.js",
      "usage.js",
    ].map((name) => here(`src/${name}`)),
    format: "esm",
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
  },
  // pdf.js runs it as a worker, from the address that `documents/pdf-page.js` names.
  {
    ...common,
    entryPoints: [
      { in: here("node_modules/pdfjs-dist/legacy/build/pdf.worker.mjs"), out: "pdf/worker" },
    ],
    format: "esm",
    logLevel: "warning",
  },
  // Runs before the first paint, or on a page without modules: classic scripts of their own.
  {
    ...common,
    entryPoints: [
      here("src/before-paint.js"),
      here("src/passkeys.js"),
      here("src/reload-while-running.js"),
      here("src/show-passwords.js"),
    ],
    format: "iife",
  },
  {
    ...common,
    entryPoints: ["site.css", "admin.css", "overview.css"].map((name) =>
      here(`src/styles/${name}`),
    ),
  },
];

await rm(here("dist"), { recursive: true, force: true });
await mkdir(here("dist"), { recursive: true });
await cp(here("src/icons"), here("dist/icons"), { recursive: true });
// Data of pdf.js: encodings of East Asian fonts, fonts that a PDF may leave out, and the decoder of
// JPEG 2000 without WebAssembly, which the content security policy does not allow.
for (const name of ["cmaps", "standard_fonts", "wasm/openjpeg_nowasm_fallback.js"]) {
  await cp(here(`node_modules/pdfjs-dist/${name}`), here(`dist/pdf/${name}`), { recursive: true });
}
if (watching) {
  for (const options of builds) {
    await (await esbuild.context(options)).watch();
  }
} else {
  await Promise.all(builds.map((options) => esbuild.build(options)));
}
