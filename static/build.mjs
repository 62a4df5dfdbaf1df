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
    entryPoints: [here("src/app.js"), here("src/admin.js"), here("src/shared.js")],
    format: "esm",
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
  },
  // Runs before the first paint, so it is a classic script of its own.
  { ...common, entryPoints: [here("src/early.js")], format: "iife" },
  { ...common, entryPoints: [here("src/styles/site.css")] },
];

await rm(here("dist"), { recursive: true, force: true });
await mkdir(here("dist"), { recursive: true });
await cp(here("src/icons"), here("dist/icons"), { recursive: true });
if (watching) {
  for (const options of builds) {
    await (await esbuild.context(options)).watch();
  }
} else {
  await Promise.all(builds.map((options) => esbuild.build(options)));
}
