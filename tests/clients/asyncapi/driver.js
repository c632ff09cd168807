// Reads an AsyncAPI document with the official parser, and prints as one line of JSON what it understood and what
// it has against it.  Usage: node driver.js <file>
"use strict";

const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

async function read(path) {
    const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"));
    const channels = document?.channels().all() ?? [];
    console.log(JSON.stringify({
        channels: channels.map((channel) => [channel.id(), channel.address(), channel.messages().all().length]),
        operations: (document?.operations().all() ?? []).map((operation) => [
            operation.id(), operation.action(), operation.reply()?.messages().all().map((message) => message.id()),
        ]),
        complaints: diagnostics.map(({ severity, code, message, path: place }) => ({
            severity, code, message, place: place.join("/"),
        })),
    }));
}

read(process.argv[2]);
