// Keep the books of some assets, and know when not to trust them.  See README.md beside this folder.
//
// NATS is at $NATS_URL, else on this machine.  One line per event: `ok` or `??`, whether the book can be trusted; where
// the stream stands; the top of the book; what happened.  Ctrl-C ends it, with each whole book as a line of JSON.

import { connect, type Subscription } from "@nats-io/transport-node";
import { type AssetEvent, Book } from "./book.js";
import type { BookReply, BookRequest, ErrorReply } from "./contract.js";
import type { SubscribeReply, SubscribeRequest, UnsubscribeRequest } from "./contract.js";

const PREFIX = process.env["POLYBUS_PREFIX"] ?? "polymarket.v1";
const ANSWER_WITHIN_MS = 15_000;

const assets = process.argv.slice(2);
if (!assets.length) {
  console.error("which assets? npm start -- TOKEN_ID [TOKEN_ID ...]");
  process.exit(2);
}
const books = new Map(assets.map((asset) => [asset, new Book()]));
const nc = await connect({ servers: process.env["NATS_URL"] ?? "nats://127.0.0.1:4222", name: "keep_books.ts" });

async function ask<Request, Reply>(verb: string, request: Request): Promise<Reply> {
  const message = await nc.request(`${PREFIX}.control.${verb}`, JSON.stringify(request), { timeout: ANSWER_WITHIN_MS });
  const answer = message.json<Reply | ErrorReply>();
  if (message.headers?.has("Nats-Service-Error-Code")) {
    const { code, message: why } = (answer as ErrorReply).error;
    throw new Error(`${verb} was refused (${code}): ${why}`);
  }
  return answer as Reply;
}

async function follow(asset: string, book: Book, events: Subscription): Promise<void> {
  function show({ epoch, seq }: { epoch: number; seq: number }, happened: string): void {
    const top = `${book.bids[0]?.price ?? "-"} ${book.asks[0]?.price ?? "-"}`;
    console.log(book.trusted ? "ok" : "??", asset.slice(0, 6), epoch, seq, top, happened);
  }
  // Whoever is not the first to ask sees no book come: the gateway has one.
  book.begin(await ask<BookRequest, BookReply>("book", { asset }));
  show(book, "begins");
  for await (const message of events) {
    const event = message.json<AssetEvent>();
    book.take(event);
    show(event, event.type === "gap" ? `gap ${book.why}` : event.type);
  }
}

async function end(id: string): Promise<void> {
  // First stop listening: that nobody wants the assets any more is a gap, too, but none of ours.
  await Promise.all(listening.map((events) => events.drain()));
  await ask<UnsubscribeRequest, unknown>("unsubscribe", { id });
  await nc.close();
  for (const [asset, { trusted, epoch, seq, bids, asks }] of books) {
    console.log(JSON.stringify({ asset, trusted, epoch, seq, bids, asks }));
  }
}

// First listen, then ask: what comes meanwhile waits in the subscriptions.
const listening = [...books.keys()].map((asset) => nc.subscribe(`${PREFIX}.market.*.${asset}.>`));
const { id, missing } = await ask<SubscribeRequest, SubscribeReply>("subscribe", {
  assets,
  owner: "examples/typescript",
  wait: "data",
});
for (const { asset, reason } of missing) console.log("--", asset.slice(0, 6), reason);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void end(id));
for (const [index, [asset, book]] of [...books].entries()) void follow(asset, book, listening[index]!);
