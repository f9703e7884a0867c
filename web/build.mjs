// Builds the page's script and style sheet into a folder: node build.mjs OUT.
import { build } from "esbuild";

const out = process.argv[2];
const common = { bundle: true, minify: true, target: "es2022", charset: "ascii", legalComments: "none", logLevel: "warning" };
await build({
  ...common,
  entryPoints: ["src/main.tsx"],
  outfile: `${out}/view.js`,
  format: "iife",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".css": "text" },
});
await build({ ...common, entryPoints: ["src/style.css"], outfile: `${out}/view.css` });
