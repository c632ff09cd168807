// One asset's book, and whether it may be trusted.  No I/O in here: events in, a book out.

import type { BestBidAsk, Book as Snapshot, BookReply, Gap, LastTradePrice } from "./contract.js";
import type { PriceChange, TickSizeChange } from "./contract.js";

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

  /** The book we began with holds all events up to this place. */
  #begun = { epoch: 0, seq: 0 };
  /** The venue's time of what was applied last, in milliseconds. */
  #time = 0;
  readonly #bids = new Map<bigint, Level>();
  readonly #asks = new Map<bigint, Level>();

  /** Begin with what the gateway answered to `book`, if that may be believed; otherwise the next book will do. */
  begin(answer: BookReply): void {
    if (answer.trust !== "live" && answer.trust !== "quiet") return;
    this.#replace(answer);
    this.epoch = answer.epoch;
    this.seq = answer.seq;
    this.#begun = { epoch: answer.epoch, seq: answer.seq };
  }

  /** Take in the next event of the asset. */
  take(event: AssetEvent): void {
    if (!isBeyond(event, this.#begun)) return;
    const isNext = event.epoch === this.epoch && event.seq === this.seq + 1;
    switch (true) {
      case event.type === "gap":
        // Events may be missing between the venue and NATS: no trust until the next book.
        this.#distrust(event.detail ? `${event.reason}: ${event.detail}` : event.reason);
        break;
      case event.type === "book":
        // A whole book: what went wrong before does not matter any more.
        this.#replace(event);
        break;
      case !isNext:
        // No gap says so, hence it was between NATS and us: too slow, or reconnected.
        this.#distrust(`${event.epoch}, ${event.seq} came after ${this.epoch}, ${this.seq}`);
        break;
      case event.type === "price_change" && this.trusted && (event.source_time ?? this.#time) >= this.#time:
        this.#time = event.source_time ?? this.#time;
        for (const { side, price, size } of event.changes) {
          fill(side === "BUY" ? this.#bids : this.#asks, [{ price, size }], { keep: true });
        }
        break;
    }
    // A gap for events that NATS never confirmed may stand where we have been already.
    if (isBeyond(event, this)) {
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

  #replace({ bids, asks, source_time }: Snapshot | BookReply): void {
    fill(this.#bids, bids);
    fill(this.#asks, asks);
    this.#time = source_time ?? 0;
    this.trusted = true;
    this.why = "";
  }

  #distrust(why: string): void {
    this.trusted = false;
    this.why = why;
  }
}

interface Place {
  epoch: number;
  seq: number;
}

function isBeyond(one: Place, other: Place): boolean {
  return one.epoch > other.epoch || (one.epoch === other.epoch && one.seq > other.seq);
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
