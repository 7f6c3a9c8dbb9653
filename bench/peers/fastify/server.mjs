// The smallest honest receiver with Fastify and better-sqlite3: it proves the raw body, keeps each event once, and answers 202 when that
// is on the disk.
//
// PORT, SECRET and DATABASE say where. PROCESSES above 1 makes a cluster of so many on one database. With GROUP=1 what has come
// meanwhile shares one commit, as Tollgate's store does; few programs of this kind are written so.

import cluster from "node:cluster";
import { createHmac, timingSafeEqual } from "node:crypto";
import Database from "better-sqlite3";
import Fastify from "fastify";

const { PORT, SECRET, DATABASE, PROCESSES = "1", GROUP = "0" } = process.env;

if (cluster.isPrimary && Number(PROCESSES) > 1) {
  open();
  for (let process = 0; process < Number(PROCESSES); process++) cluster.fork();
} else {
  serve();
}

/** The same durability as Tollgate's: a commit returns after its fsync. */
function open() {
  const database = new Database(DATABASE, { timeout: 60_000 });
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.exec(
    "CREATE TABLE IF NOT EXISTS receipts (event TEXT PRIMARY KEY, received_at INTEGER NOT NULL, body BLOB NOT NULL)",
  );
  return database;
}

function serve() {
  const database = open();
  const insert = database.prepare("INSERT INTO receipts VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
  const keep = GROUP === "1" ? grouped(database, insert) : (row) => insert.run(row);
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
    await keep([event, Date.now(), body]);
    return reply.code(202).send({ receipt: event, status: "accepted" });
  });
  app.listen({ port: Number(PORT), host: "127.0.0.1" });
}

function proven(body, signature) {
  const given = Buffer.from(signature ?? "", "hex");
  const expected = createHmac("sha256", SECRET).update(body).digest();
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** One transaction for all that waits once the requests that have come are read. */
function grouped(database, insert) {
  let waiting = [];
  const commit = database.transaction((group) => group.forEach(({ row }) => insert.run(row)));
  const flush = () => {
    const group = waiting;
    waiting = [];
    try {
      commit(group);
      group.forEach(({ resolve }) => resolve());
    } catch (error) {
      group.forEach(({ reject }) => reject(error));
    }
  };
  return (row) =>
    new Promise((resolve, reject) => {
      if (waiting.push({ row, resolve, reject }) === 1) setImmediate(flush);
    });
}
