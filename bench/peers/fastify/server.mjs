// The smallest honest receiver with Fastify and better-sqlite3, or PostgreSQL: it proves the raw body, keeps each event once, and answers 202 when that
// is on the disk.
//
// PORT, SECRET and DATABASE say where. PROCESSES above 1 makes a cluster of so many on one database. With GROUP=1 what has come
// meanwhile shares one commit, as Tollgate's store does; few programs of this kind are written so. Where DATABASE is the URL of a PostgreSQL, each event is a row
// and a commit of its own.

import cluster from "node:cluster";
import { createHmac, timingSafeEqual } from "node:crypto";
import Database from "better-sqlite3";
import Fastify from "fastify";
import pg from "pg";

const { PORT, SECRET, DATABASE, PROCESSES = "1", GROUP = "0" } = process.env;

/** To a PostgreSQL: commits that are under way at once share a sync of its log. */
const CONNECTIONS = 20;

if (cluster.isPrimary && Number(PROCESSES) > 1) {
  open();
  for (let process = 0; process < Number(PROCESSES); process++) cluster.fork();
} else if (DATABASE.startsWith("postgres:")) {
  serve(await byPostgres());
} else {
  serve(bySqlite());
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

function bySqlite() {
  const database = open();
  const insert = database.prepare("INSERT INTO receipts VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
  return GROUP === "1" ? grouped(database, insert) : (row) => insert.run(row);
}

async function byPostgres() {
  // The folder of a socket stands in such a URL as its host, with its slashes escaped.
  const [, user, folder, port, database] = DATABASE.match(/^postgres:\/\/(\w+)@([^:/]+)(?::(\d+))?\/(\w+)$/);
  const pool = new pg.Pool({ user, host: decodeURIComponent(folder), port: Number(port ?? 5432), database, max: CONNECTIONS });
  await pool.query(
    "CREATE TABLE IF NOT EXISTS receipts (event TEXT PRIMARY KEY, received_at BIGINT NOT NULL, body BYTEA NOT NULL)",
  );
  const insert = { name: "insert", text: "INSERT INTO receipts VALUES ($1, $2, $3) ON CONFLICT DO NOTHING" };
  return (values) => pool.query({ ...insert, values });
}

/** `keep` returns when a row is on the disk. */
function serve(keep) {
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
