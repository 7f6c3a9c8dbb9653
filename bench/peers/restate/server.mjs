// Restate as a durable ingress: `/rewards/receive/send` answers 202 when the event is in Restate's log, once for each idempotency key.
// The signature is proven afterwards, in the service that Restate then calls: the ingress itself proves nothing.
//
// PORT, SECRET and DATABASE (a folder, here) say where; ADMIN_PORT, NODE_PORT and SERVICE_PORT are the other listeners.

import { createHmac, timingSafeEqual } from "node:crypto";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import * as restate from "@restatedev/restate-sdk";

const { PORT, SECRET, DATABASE, ADMIN_PORT, NODE_PORT, SERVICE_PORT } = process.env;

const rewards = restate.service({
  name: "rewards",
  handlers: {
    receive: restate.handlers.handler({ input: restate.serde.binary, accept: "*/*" }, async (context, body) => {
      const given = Buffer.from(context.request().headers.get("x-voucherify-signature") ?? "", "hex");
      const expected = createHmac("sha256", SECRET).update(body).digest();
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
        throw new restate.TerminalError("signature", { errorCode: 401 });
      }
    }),
  },
});
await restate.serve({ services: [rewards], port: Number(SERVICE_PORT) });

mkdirSync(DATABASE, { recursive: true });
const server = spawn("node_modules/.bin/restate-server", ["--no-logo", "--node-name", "bench", "--base-dir", DATABASE], {
  stdio: "inherit",
  env: {
    ...process.env,
    RESTATE_LISTEN_MODE: "tcp",
    RESTATE_BIND_IP: "127.0.0.1",
    RESTATE_BIND_PORT: NODE_PORT,
    RESTATE_INGRESS__BIND_PORT: PORT,
    RESTATE_ADMIN__BIND_PORT: ADMIN_PORT,
    // Nothing of it has business outside this machine.
    RESTATE_DISABLE_TELEMETRY: "true",
    RESTATE_ADMIN__DISABLE_WEB_UI: "true",
    DO_NOT_TRACK: "1",
    RESTATE_LOG_FILTER: "error",
  },
});
server.on("exit", (status) => process.exit(status ?? 1));

/** Until the server is up and knows the service. */
for (let registered = false; !registered; ) {
  await sleep(200);
  registered = await fetch(`http://127.0.0.1:${ADMIN_PORT}/deployments`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ uri: `http://127.0.0.1:${SERVICE_PORT}` }),
  }).then(
    (answer) => answer.ok,
    () => false,
  );
}
