// Bundles the pages into the folder given, one HTML file each with what the server would send and the script inline.
import { build } from "esbuild";
import { createElement } from "react";
import { mkdir, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [target] = process.argv.slice(2);
const here = import.meta.dirname;
const define = {
  "process.env.NODE_ENV": '"production"',
  __VUE_OPTIONS_API__: "false",
  __VUE_PROD_DEVTOOLS__: "false",
  __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "true",
};
const common = { bundle: true, minify: true, jsx: "automatic", define };
await mkdir(target, { recursive: true });

const server = async (entry) => {
  const out = path.join(here, `${entry}.server.mjs`);
  const options = { outfile: out, platform: "node", format: "esm", packages: "external" };
  await build({ ...common, ...options, entryPoints: [path.join(here, entry)] });
  return import(pathToFileURL(out));
};

const page = async (entry, html) => {
  const name = path.parse(entry).name;
  await build({ ...common, entryPoints: [path.join(here, entry)], outfile: path.join(target, `${name}.js`), format: "iife" });
  await writeFile(path.join(target, `${name}.html`), html);
};

const { renderToString } = await import("react-dom/server");
const { App } = await server("react.jsx");
await page("react.jsx", renderToString(createElement(App, { path: "/react" })));
const { renderToString: renderVue } = await import("vue/server-renderer");
const { makeApp } = await server("vue.js");
await page("vue.js", await renderVue(makeApp("/vue")));
