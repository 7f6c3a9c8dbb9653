// The smallest honest receiver with Fastify and PostgreSQL: it proves the raw body, keeps each event once, as a row and a commit of its own, and
// answers 202 when that is on the disk. So do hosts that keep webhooks in PostgreSQL without gathering them.
//
// PORT, SECRET and DATABASE, a URL, say where.

import { createHmac, timingSafeEqual } from "node:crypto";
import Fastify from "fastify";
import pg from "pg";

const { PORT, SECRET, DATABASE } = process.env;

/** Commits that are under way at once share a sync of PostgreSQL's log. */
const CONNECTIONS = 20;

// A socket's folder stands in such a URL as its host, with its slashes escaped.
const url = new URL(DATABASE.replace(/@[^/]*\//, "@localhost/"));
const [, folder, port] = DATABASE.match(/@([^:/]*)(?::(\d+))?\//);
const pool = new pg.Pool({
  host: decodeURIComponent(folder),
  port: Number(port ?? 5432),
  user: url.username,
  database: url.pathname.slice(1),
  max: CONNECTIONS,
});
await pool.query(
  "CREATE TABLE IF NOT EXISTS receipts (event TEXT PRIMARY KEY, tenant TEXT NOT NULL, received_at BIGINT NOT NULL, body BYTEA NOT NULL)",
);
const insert = {
  name: "insert",
  text: "INSERT INTO receipts VALUES ($1, 'bench', $2, $3) ON CONFLICT DO NOTHING",
};

const app = Fastify();
// The signature is over the bytes, so they are kept as they came.
app.removeAllContentTypeParsers();
app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
app.post("/in/bench/rewards", async (request, reply) => {
  const body = request.body;
  if (!proven(body, request.headers["x-voucherify-signature"])) {
    return reply.code(401).send({ error: "signature" });
  }
  const event = JSON.parse(body).event?.id;
  if (typeof event !== "string") return reply.code(400).send({ error: "event id" });
  await pool.query({ ...insert, values: [event, Date.now(), body] });
  return reply.code(202).send({ receipt: event, status: "accepted" });
});
app.listen({ port: Number(PORT), host: "127.0.0.1" });

function proven(body, signature) {
  const given = Buffer.from(signature ?? "", "hex");
  const expected = createHmac("sha256", SECRET).update(body).digest();
  return given.length === expected.length && timingSafeEqual(given, expected);
}
