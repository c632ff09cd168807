// Follow some assets from JavaScript with a bare NATS client, and know when not to trust what one has.
//
//     npm install @nats-io/transport-node
//     node examples/follow.mjs TOKEN_ID [TOKEN_ID ...]
//
// NATS is at $NATS_URL, else on this machine.  One line per event: `ok` or `??`, whether the book can be trusted; the
// best bid and ask; what happened.  Prices stay the strings they are: a JavaScript number would round them.

import { connect } from "@nats-io/transport-node";

const PREFIX = "polymarket.v1";
const assets = process.argv.slice(2);
if (!assets.length) {
  console.error("which assets? node examples/follow.mjs TOKEN_ID [TOKEN_ID ...]");
  process.exit(2);
}

const unknown = () => ({ trusted: false, epoch: 0, seq: 0, begun: [0, 0], bid: null, ask: null });
const state = new Map(assets.map((asset) => [asset, unknown()]));

// Begin with what the gateway answered to `book`, if that may be believed; otherwise the next book will do.
function begin(answer) {
  if (answer.trust !== "live" && answer.trust !== "quiet") return;
  const s = take({ ...answer, type: "book" });
  s.begun = [s.epoch, s.seq];
}

function take(event) {
  const s = state.get(event.asset);
  const [epoch, seq] = s.begun;
  if (event.epoch < epoch || (event.epoch === epoch && event.seq <= seq)) return s; // the book we began with holds it
  const isNext = event.epoch === s.epoch && event.seq === s.seq + 1;
  if (event.type === "gap") {
    s.trusted = false; // events may be missing between the venue and NATS
  } else if (event.type === "book") {
    s.trusted = true; // a whole book: what went wrong before does not matter any more
    [s.bid, s.ask] = [event.bids[0]?.price ?? null, event.asks[0]?.price ?? null];
  } else if (!isNext) {
    s.trusted = false; // events are missing between NATS and us: we were too slow, or reconnected
  } else if (event.type === "price_change") {
    const last = event.changes.at(-1);
    [s.bid, s.ask] = [last.best_bid, last.best_ask];
  }
  // A gap for events that NATS never confirmed may stand where we have been already.
  if (event.epoch > s.epoch || (event.epoch === s.epoch && event.seq > s.seq)) {
    [s.epoch, s.seq] = [event.epoch, event.seq];
  }
  return s;
}

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });

async function command(verb, request) {
  const reply = await nc.request(`${PREFIX}.control.${verb}`, JSON.stringify(request), { timeout: 15_000 });
  return reply.json();
}

async function show(asset, events) {
  // Whoever is not the first to ask sees no book come: the gateway has one.
  begin(await command("book", { asset, depth: 1 }));
  for await (const message of events) {
    const event = message.json();
    const { trusted, bid, ask } = take(event);
    console.log(trusted ? "ok" : "??", event.asset.slice(0, 6), bid, ask, event.type, event.reason ?? "");
  }
}

// First listen, then ask: what comes meanwhile waits in the subscriptions.
const listening = assets.map((asset) => [asset, nc.subscribe(`${PREFIX}.market.*.${asset}.>`)]);
// With an id, asking again adds nothing, and with one of its own no other program's subscription is meant.
const request = { assets, owner: "examples/follow.mjs", id: `follow-mjs-${process.pid}`, wait: "data" };
const answer = await command("subscribe", request);
if (answer.error) {
  console.error(answer.error.message);
  process.exit(1);
}
for (const { asset, reason } of answer.missing) console.log("--", asset.slice(0, 6), reason);
for (const [asset, events] of listening) show(asset, events);
