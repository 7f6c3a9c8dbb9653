// Loyalty: credits a customer with a share of what a completed order was worth, up to a limit per customer.
import * as state from "tollgate:plugin/state@1.0.0";
import * as log from "tollgate:plugin/log@1.0.0";

// Operations remembered per customer. For one that is forgotten, the host's ledger still gives one effect per operation key.
const OPERATIONS_MAX = 32;

function process(event, configJson) {
  const config = parseConfig(configJson);
  if (event.status !== "completed") throw refuse("only completed orders earn");
  if (!event.amount) throw hold("the event has no amount");
  const { minorUnits, currency } = event.amount;
  if (currency !== config.currency) throw refuse(`orders in ${currency} earn nothing`);
  const account = requiredAttribute(event, "customer");
  const operation = attribute(event, "operation") || event.subject || event.id;

  const stateKey = `customer/${account}`;
  const customer = readJson(stateKey) ?? { credited: 0, operations: [] };

  // The same operation has the same content each time, whatever the limit has left by now.
  let credit = customer.operations.find(([known]) => known === operation)?.[1];
  if (credit === undefined) {
    const left = config.customer_max_minor_units - customer.credited;
    credit = Math.min(share(minorUnits, config.rate_bps), left);
    if (credit < 1) throw refuse("nothing is left to earn");
    log.write("info", `${operation} earns ${credit} of ${left} left`);
    customer.credited += credit;
    customer.operations = [...customer.operations, [operation, credit]].slice(-OPERATIONS_MAX);
    writeJson(stateKey, customer);
  }
  const amount = { minorUnits: credit, currency };
  const action = { tag: "credit", val: { account, amount, reason: "loyalty" } };
  return [{ operationKey: `loyalty:${operation}`, action }];
}

function parseConfig(json) {
  const config = JSON.parse(json);
  const isRate = Number.isInteger(config.rate_bps) && config.rate_bps >= 1 && config.rate_bps <= 10000;
  if (!isRate) throw hold("config: `rate_bps` must be 1 to 10000");
  if (!Number.isSafeInteger(config.customer_max_minor_units)) throw hold("config: `customer_max_minor_units` must be an integer");
  if (typeof config.currency !== "string") throw hold("config: `currency` must be a text");
  return config;
}

// An amount is a number that is exact; its product with a rate need not be, so that is a BigInt.
function share(minorUnits, rateBps) {
  return Number((BigInt(minorUnits) * BigInt(rateBps)) / 10000n);
}

function attribute(event, name) {
  return event.attributes.find(([known]) => known === name)?.[1];
}

function requiredAttribute(event, name) {
  const value = attribute(event, name);
  if (!value) throw hold(`the event has no attribute \`${name}\`; the profile of source \`${event.source}\` must read it`);
  return value;
}

// State is bytes; what is kept here is JSON in UTF-8. QuickJS has no TextEncoder: these two are its idiom for one.
function readJson(key) {
  const bytes = state.get(key);
  return bytes ? JSON.parse(decodeURIComponent(escape(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")))) : null;
}

function writeJson(key, value) {
  state.set(key, Uint8Array.from(unescape(encodeURIComponent(JSON.stringify(value))), (char) => char.charCodeAt(0)));
}

// The three answers beside proposals. What else is thrown is a fault of the plugin.
class Failure {
  constructor(payload) {
    this.payload = payload;
  }
}
const refuse = (message) => new Failure({ tag: "refuse", val: message });
const hold = (message) => new Failure({ tag: "hold", val: message });
const retry = (message, afterMs = null) => new Failure({ tag: "retry", val: { afterMs, message } });

export const handler = {
  process(event, config) {
    try {
      return checked(process(event, config));
    } catch (error) {
      if (error instanceof Failure) throw error;
      // A fault ends the run; what it was is logged first, or nobody would know.
      log.write("error", `${error}\n${error?.stack ?? ""}`);
      throw error;
    }
  },
};

// The contract's shapes (wit/tollgate.wit, tollgate.d.ts). What does not fit them would end the run without a word, or be cut to fit:
// here it is an error that names the field.
const text = { is: (value) => typeof value === "string", what: "a text" };
const whole = { is: Number.isSafeInteger, what: "a whole number (minor units have no fraction)" };
const count = { is: (value) => Number.isSafeInteger(value) && value >= 0, what: "a whole number, 0 or more" };
const money = { minorUnits: whole, currency: text };
const transfer = { account: text, amount: money, reason: text };
const stock = { sku: text, quantity: count, reference: text };
const ACTIONS = {
  credit: transfer,
  debit: transfer,
  "reserve-stock": stock,
  "release-stock": stock,
  "issue-gift-card": { recipient: text, amount: money, template: text },
  flag: { subject: text, score: count, reasons: [text] },
  notify: { channel: text, recipient: text, template: text, values: [[text, text]] },
  extension: { kind: text, schema: text, body: text },
};

function checked(proposals) {
  fits("proposals", proposals, [{ operationKey: text, action: { is: (action) => action?.tag in ACTIONS, what: tags() } }]);
  proposals.forEach(({ action }, at) => fits(`proposals[${at}].action.val`, action.val, ACTIONS[action.tag]));
  return proposals;
}

const tags = () => `an object with \`val\`, and with \`tag\` one of ${Object.keys(ACTIONS).join(", ")}`;

function fits(where, value, shape) {
  const wrong = (what) => new TypeError(`${where} must be ${what}, and is ${JSON.stringify(value) ?? String(value)}`);
  if (typeof shape.is === "function") {
    if (!shape.is(value)) throw wrong(shape.what);
  } else if (Array.isArray(shape)) {
    if (!Array.isArray(value)) throw wrong("a list");
    if (shape.length > 1 && value.length !== shape.length) throw wrong(`a list of ${shape.length}`);
    value.forEach((item, at) => fits(`${where}[${at}]`, item, shape.length > 1 ? shape[at] : shape[0]));
  } else {
    if (typeof value !== "object" || value === null) throw wrong(`an object with ${Object.keys(shape).join(", ")}`);
    const unknown = Object.keys(value).find((key) => !(key in shape));
    if (unknown !== undefined) throw new TypeError(`${where} has \`${unknown}\`, and may have ${Object.keys(shape).join(", ")}`);
    for (const key of Object.keys(shape)) fits(`${where}.${key}`, value[key], shape[key]);
  }
}
