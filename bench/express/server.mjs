// express-pouchdb on a free port, over PouchDB's memory adapter or the one that is named: prints the port, and serves until
// its input ends.
import express from "express";
import expressPouchdb from "express-pouchdb";
import PouchDB from "pouchdb";
import memory from "pouchdb-adapter-memory";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

PouchDB.plugin(memory);
process.chdir(mkdtempSync(join(tmpdir(), "express-pouchdb-")));
const app = express();
// What documents and queries need, without what would slow each request down: log file, sessions, validation.
app.use(expressPouchdb(PouchDB.defaults({ adapter: process.argv[2] ?? "memory" }), {
  inMemoryConfig: true,
  mode: "minimumForPouchDB",
  overrideMode: { include: ["routes/find"] },
}));
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit());
