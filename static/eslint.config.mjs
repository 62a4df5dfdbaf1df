// Rules for the page's scripts. Types are checked by `tsc`, layout by prettier.
import js from "@eslint/js";
import globals from "globals";
import { layers } from "./eslint-layers.mjs";

export default [
  { ignores: ["dist/"] },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_", caughtErrors: "all" }],
      "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }],
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
  },
  {
    files: ["src/**/*.js"],
    languageOptions: { globals: globals.browser },
    plugins: { page: { rules: { layers } } },
    rules: { "page/layers": "error" },
  },
  {
    files: ["test/**/*.js", "*.mjs"],
    languageOptions: { globals: globals.node },
  },
];
