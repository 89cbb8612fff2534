// Makes PouchDB calls on a server's database. A command has some, and its answer is a list of their outcomes.
//
// A call is [method, ...arguments]; its outcome {ok: ...} or {status, name, reason}.

import { createRequire } from "node:module";

import PouchDB from "pouchdb";

import { answer } from "./lines.mjs";

// The plug-in expects to be loaded by a page.
Object.assign(globalThis, { PouchDB, self: globalThis });
createRequire(import.meta.url)("pouchdb/dist/pouchdb.find.js");

// The database of the command that runs.
let db;

const special = {
  async attach(id, name, rev, content, type) {
    return db.putAttachment(id, name, rev, Buffer.from(content), type);
  },

  async attached(id, name) {
    return (await db.getAttachment(id, name)).toString();
  },

  /** Return the ids that a live feed reports while the named documents are written. */
  async follow(...ids) {
    const seen = [];
    const feed = db.changes({ live: true, since: "now" });
    const told = new Promise((resolve, reject) => {
      feed.on("error", reject);
      feed.on("change", ({ id }) => seen.push(id) === ids.length && resolve());
    });
    for (const id of ids) await db.put({ _id: id });
    await told;
    feed.cancel();
    return seen;
  },
};

await answer(async ({ remote, headers, calls }) => {
  function fetch(url, options) {
    for (const [name, value] of Object.entries(headers)) options.headers.set(name, value);
    return PouchDB.fetch(url, options);
  }

  db = new PouchDB(remote, { fetch, skip_setup: calls[0][0] !== "info" });
  const outcomes = [];
  for (const [method, ...args] of calls) {
    try {
      outcomes.push({ ok: await (special[method] ?? db[method].bind(db))(...args) });
    } catch ({ status, name, reason, message }) {
      outcomes.push({ status, name, reason: reason ?? message });
    }
  }
  return outcomes;
});
