// Replicates between a PouchDB database on disk and a server's, one command after another.
//
// Each command opens the database anew, so a client knows only what its database keeps on disk.

import PouchDB from "pouchdb";

import { answer } from "./lines.mjs";

// The databases of the command that runs.
let here, there;

const id = (n) => `doc-${String(n).padStart(5, "0")}`;

/** Return every document's leaves with their histories and the digests of attachments: what replicas must share. */
async function trees(db) {
  const { results } = await db.changes({ style: "all_docs", since: 0 });
  const leaves = results.flatMap((row) => row.changes.map(({ rev }) => ({ id: row.id, rev })));
  const found = {};
  for (let n = 0; n < leaves.length; n += 500) {
    const answer = await db.bulkGet({ docs: leaves.slice(n, n + 500), revs: true });
    for (const { docs } of answer.results) {
      for (const { ok } of docs) (found[ok._id] ??= []).push(leaf(ok));
    }
  }
  return found;
}

const sorted = (found) => Object.entries(found).map(([id, leaves]) => [id, leaves.sort()]).sort();

function leaf(doc) {
  const digests = Object.entries(doc._attachments ?? {}).map(([name, { digest }]) => `${name} ${digest}`);
  return [doc._rev, Boolean(doc._deleted), doc._revisions.ids.join(" "), doc.mark ?? null, ...digests.sort()];
}

const commands = {
  /** Write documents `from` to `to`, each with a mark that tells the replicas apart. */
  async write({ from, to, mark }) {
    const docs = [];
    for (let n = from; n < to; n++) docs.push({ _id: id(n), mark, n, text: "é".repeat(n % 50) });
    return (await here.bulkDocs(docs)).filter((row) => !row.ok).length;
  },

  /** Write each `every`-th document again, or delete it. */
  async edit({ every, mark, remove = false }) {
    const { rows } = await here.allDocs({ include_docs: true });
    const chosen = rows.filter((row, n) => n % every === 0 && !row.id.startsWith("_design/"));
    const docs = chosen.map(({ doc }) => (remove ? { _id: doc._id, _rev: doc._rev, _deleted: true } : { ...doc, mark }));
    return (await here.bulkDocs(docs)).filter((row) => !row.ok).length;
  },

  async attach({ n, name, content }) {
    const { _rev } = await here.get(id(n));
    // CouchDB compresses text, and its digest is then that of the compressed bytes.
    return here.putAttachment(id(n), name, _rev, Buffer.from(content), "application/octet-stream");
  },

  async read({ n, name }) {
    return (await here.getAttachment(id(n), name)).toString();
  },

  async push() {
    return here.replicate.to(there);
  },

  async pull() {
    return here.replicate.from(there);
  },

  /** Sync both ways until both sides have `count` documents, two of which are written while the feeds are open. */
  async live({ count, mark, seconds = 60 }) {
    const sync = here.sync(there, { live: true, retry: false });
    const settled = new Promise((resolve, reject) => {
      sync.on("error", reject);
      const started = Date.now();
      const look = async () => {
        const infos = await Promise.all([here.info(), there.info()]);
        if (infos.every((info) => info.doc_count === count)) return resolve(infos.map((info) => info.doc_count));
        if (Date.now() - started > seconds * 1000) return reject(new Error(`still ${JSON.stringify(infos)}`));
        setTimeout(look, 100);
      };
      look();
    });
    await here.put({ _id: `here-${mark}`, mark });
    await there.put({ _id: `there-${mark}`, mark });
    try {
      return await settled;
    } finally {
      sync.cancel();
    }
  },

  async trees() {
    return { here: sorted(await trees(here)), there: sorted(await trees(there)) };
  },
};

await answer(async ({ command, local, remote, options }) => {
  here = new PouchDB(local);
  there = new PouchDB(remote, { skip_setup: true });
  try {
    return await commands[command](options);
  } finally {
    await here.close();
  }
});
