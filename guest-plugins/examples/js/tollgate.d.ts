// The contract of wit/tollgate.wit as JavaScript sees it, for editors. In plugin.js, for example:
//   /** @param {import("tollgate:plugin/types@1.0.0").Event} event */

declare module "tollgate:plugin/types@1.0.0" {
  export interface Money {
    /** Whole minor units: cents, paise, yen. Never a fraction. */
    minorUnits: number;
    /** ISO 4217, for example `USD`. */
    currency: string;
  }

  export interface Event {
    tenant: string;
    source: string;
    id: string;
    eventType: string;
    /** What the event is about: the ordering key. */
    subject?: string;
    family?: string;
    status?: string;
    /** Milliseconds since 1970. */
    occurredAtMs?: number;
    receivedAtMs: number;
    amount?: Money;
    attributes: [name: string, value: string][];
    /** The event's body as text. */
    payload: string;
  }

  export interface Transfer {
    account: string;
    amount: Money;
    reason: string;
  }

  export interface Stock {
    sku: string;
    quantity: number;
    reference: string;
  }

  export type Action =
    | { tag: "credit" | "debit"; val: Transfer }
    | { tag: "reserve-stock" | "release-stock"; val: Stock }
    | { tag: "issue-gift-card"; val: { recipient: string; amount: Money; template: string } }
    | { tag: "flag"; val: { subject: string; score: number; reasons: string[] } }
    | { tag: "notify"; val: { channel: string; recipient: string; template: string; values: [string, string][] } }
    | { tag: "extension"; val: { kind: string; schema: string; body: string } };

  export interface Proposal {
    /** Names the business operation, not the event. */
    operationKey: string;
    action: Action;
  }

  /** The `payload` of what is thrown: the three answers beside proposals. */
  export type Failure =
    | { tag: "refuse" | "hold"; val: string }
    | { tag: "retry"; val: { afterMs: number | null; message: string } };

  export interface Handler {
    /** `config` is the route's configuration, as JSON. */
    process(event: Event, config: string): Proposal[];
  }
}

declare module "tollgate:plugin/state@1.0.0" {
  export function get(key: string): Uint8Array | undefined;
  export function set(key: string, value: Uint8Array): void;
  function remove(key: string): void;
  export { remove as delete };
}

declare module "tollgate:plugin/log@1.0.0" {
  export function write(level: "debug" | "info" | "warn" | "error", message: string): void;
}
