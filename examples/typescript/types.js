// Makes src/contract.ts, the types of all events, requests and replies, from the JSON Schemas of the contract.
//
//     node types.js [FOLDER]      where the schemas are; else ../../contract/schemas
//
// `polybus contract --out FOLDER` writes them for the version you run.

import { readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";

const here = dirname(fileURLToPath(import.meta.url));
const folder = process.argv[2] ?? join(here, "../../contract/schemas");

const all = (kind) => readdirSync(join(folder, kind)).sort().map((name) => ({ $ref: join(folder, kind, name) }));
const verbs = ["book", "subscribe", "unsubscribe"];
const schema = {
  title: "Contract",
  type: "object",
  properties: {
    // `type` tells them apart: a union over which a `switch` is checked.
    event: { title: "PolybusEvent", oneOf: all("events") },
    refusal: { $ref: join(folder, "error.json") },
    ...Object.fromEntries(verbs.map((verb) => [`${verb}_request`, { $ref: join(folder, `requests/${verb}.json`) }])),
    ...Object.fromEntries(verbs.map((verb) => [`${verb}_reply`, { $ref: join(folder, `replies/${verb}.json`) }])),
  },
};
const options = { additionalProperties: false, bannerComment: "// Made by types.js: do not edit.", cwd: folder, format: false };
writeFileSync(join(here, "src/contract.ts"), await compile(schema, "Contract", options));
