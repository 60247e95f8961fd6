// What the documentation's own search finds: node search.js FOLDER QUERY..., where FOLDER is the built HTML.
// It prints a list for each query, the best result first: [title, page and anchor].
"use strict";

const fs = require("fs");
const path = require("path");
const vm = require("vm");

const [folder, ...queries] = process.argv.slice(2);
const page = {
  SPHINX_HIGHLIGHT_ENABLED: false,
  _: (text) => text,
  _ready: () => {},
  console,
  document: { getElementById: () => ({}) },
  localStorage: { setItem: () => {} },
};
page.window = page;
vm.createContext(page);
const run = (file) => vm.runInContext(fs.readFileSync(path.join(folder, file), "utf8"), page);
run("_static/language_data.js");
run("_static/searchtools.js");
run("searchindex.js");
page.queries = queries;
const found = vm.runInContext(
  "queries.map((query) => Search._performSearch(...Search._parseQuery(query)).reverse())",
  page,
);
console.log(
  JSON.stringify(found.map((results) => results.map(([name, title, anchor]) => [title, name + anchor]))),
);
