// One asset's book, and whether it may be trusted.  No I/O in here: events in, a book out.

import type { BestBidAsk, Book as Snapshot, Gap, LastTradePrice, PriceChange, TickSizeChange } from "./contract.js";

/** What arrives on the subjects of one asset.  Types may be added: `take` must bear one that is not among these. */
export type AssetEvent = Snapshot | PriceChange | LastTradePrice | TickSizeChange | BestBidAsk | Gap;

export interface Level {
  /** Dollars per share, as the venue wrote it: a JavaScript number would round. */
  price: string;
  /** Shares. */
  size: string;
}

export class Book {
  /** Act on no book for which this is false. */
  trusted = false;
  /** Why it is not, in a few words. */
  why = "nothing has come yet";
  epoch = 0;
  seq = 0;

  readonly #bids = new Map<bigint, Level>();
  readonly #asks = new Map<bigint, Level>();

  /** Take in the next event of the asset. */
  take(event: AssetEvent): void {
    const isNext = event.epoch === this.epoch && event.seq === this.seq + 1;
    switch (true) {
      case event.type === "gap":
        // Events may be missing between the venue and NATS: no trust until the next book.
        this.#distrust(event.detail ? `${event.reason}: ${event.detail}` : event.reason);
        break;
      case event.type === "book":
        // A whole book: what went wrong before does not matter any more.
        fill(this.#bids, event.bids);
        fill(this.#asks, event.asks);
        this.trusted = true;
        this.why = "";
        break;
      case !isNext:
        // No gap says so, hence it was between NATS and us: too slow, or reconnected.
        this.#distrust(`${event.epoch}, ${event.seq} came after ${this.epoch}, ${this.seq}`);
        break;
      case event.type === "price_change" && this.trusted:
        for (const { side, price, size } of event.changes) {
          fill(side === "BUY" ? this.#bids : this.#asks, [{ price, size }], { keep: true });
        }
        break;
    }
    // A gap for events that NATS never confirmed may stand where we have been already.
    if (event.epoch > this.epoch || (event.epoch === this.epoch && event.seq > this.seq)) {
      this.epoch = event.epoch;
      this.seq = event.seq;
    }
  }

  /** Best first. */
  get bids(): Level[] {
    return sorted(this.#bids).reverse();
  }

  /** Best first. */
  get asks(): Level[] {
    return sorted(this.#asks);
  }

  #distrust(why: string): void {
    this.trusted = false;
    this.why = why;
  }
}

const DIGITS = 18;

/** A decimal as a whole number of its 18th digits: `.5`, `0.5` and `0.50` are one price. */
function exact(decimal: string): bigint {
  const [whole = "", fraction = ""] = decimal.split(".");
  return BigInt(whole + fraction.padEnd(DIGITS, "0"));
}

/** Set levels by their price; a size of zero removes one. */
function fill(side: Map<bigint, Level>, levels: Level[], { keep = false } = {}): void {
  if (!keep) side.clear();
  for (const { price, size } of levels) {
    if (exact(size) === 0n) side.delete(exact(price));
    else side.set(exact(price), { price, size });
  }
}

function sorted(side: Map<bigint, Level>): Level[] {
  return [...side].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, level]) => level);
}
