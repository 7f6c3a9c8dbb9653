// Asks for what a plugin does not have. The event's type says for what; the log says what came, if the run goes on.
import * as log from "tollgate:plugin/log@1.0.0";

const PROBES = {
  "Date.now": () => Date.now(),
  "new Date": () => new Date().toISOString(),
  "a date": () => new Date(0).toISOString(),
  "time zone": () => new Date(0).getTimezoneOffset(),
  "performance.now": () => performance.now(),
  "Math.random": () => Math.random(),
  "console.log": () => console.log("hello"),
  "setTimeout": () => setTimeout(() => {}, 0),
  "fetch": () => fetch("https://example.com"),
  "crypto": () => crypto.randomUUID(),
  "process.env": () => globalThis.process.env,
  "TextDecoder": () => new TextDecoder(),
};

export const handler = {
  process(event) {
    let found;
    try {
      found = String(PROBES[event.eventType]());
    } catch (error) {
      found = `throws ${error}`;
    }
    log.write("info", found);
    return [];
  },
};
