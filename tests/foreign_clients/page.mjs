// Syncs a database of the page with one of another origin, live and both ways, and obeys documents of that database.
//
// The address says where: ?remote=ADDRESS, with user and password in "account" for Basic authentication, or as a session's
// where "session" is given too. Whatever goes wrong is sent to where the page is from, since a page of the wrong origin can
// tell nobody else.

const asked = new URLSearchParams(location.search);
const remote = asked.get("remote");
const [name, password] = (asked.get("account") ?? ":").split(":");

const tell = (what) => fetch("report", { method: "POST", body: JSON.stringify(what) });

async function logIn() {
  const answer = await fetch(`${new URL(remote).origin}/_session`, {
    method: "POST",
    credentials: "include",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name, password }),
  });
  if (!answer.ok) throw new Error(`no session: ${answer.status}`);
}

const here = new PouchDB("here");
const byBasic = { skip_setup: true, auth: { username: name, password } };
const there = new PouchDB(remote, asked.has("session") ? { skip_setup: true } : byBasic);

/** Every document's leaves with their histories and the digests of their attachments, but for what is part of the asking. */
async function trees() {
  const { results } = await here.changes({ style: "all_docs", since: 0 });
  const found = {};
  for (const { id, changes } of results) {
    if (/^(task|done)-/.test(id)) continue;
    const leaves = await here.get(id, { open_revs: changes.map(({ rev }) => rev), revs: true });
    found[id] = leaves.map(({ ok }) => [
      ok._rev,
      ok._revisions.ids,
      Object.entries(ok._attachments ?? {}).map(([name, { digest }]) => [name, digest]),
    ]);
    found[id].sort();
  }
  return found;
}

const tasks = {
  async put({ doc }) {
    return here.put(doc);
  },

  async update({ id, change }) {
    return here.put({ ...(await here.get(id)), ...change });
  },

  async attach({ id, name, content }) {
    const { _rev } = await here.get(id);
    const blob = new Blob([content], { type: "application/octet-stream" });
    return here.putAttachment(id, name, _rev, blob, "application/octet-stream");
  },

  async read({ id, name }) {
    return (await here.getAttachment(id, name)).text();
  },

  async conflicts({ id }) {
    return (await here.get(id, { conflicts: true }))._conflicts ?? [];
  },

  /** Update a document while nothing is synced: say so on the other side, and sync again when a document there says so. */
  async updateAlone({ id, change, until }) {
    await stop();
    const { rev } = await tasks.update({ id, change });
    await there.put({ _id: `alone-${rev}` });
    const feed = there.changes({ live: true, since: 0, doc_ids: [until] });
    await new Promise((resolve, reject) => feed.on("change", resolve).on("error", reject));
    feed.cancel();
    start();
    return rev;
  },

  trees,
};

let sync;

function start() {
  sync = here.sync(there, { live: true, retry: true });
  sync.on("error", ({ status, name, message }) => tell({ error: message ?? name, status }));
}

const stop = () => {
  const ended = new Promise((resolve) => sync.on("complete", resolve));
  sync.cancel();
  return ended;
};

async function work() {
  if (asked.has("session")) await logIn();
  // A page that is refused must not try for ever.
  await there.info();
  start();
  await here.put({ _id: "done-ready", origin: location.origin });
  const done = new Set();
  here.changes({ live: true, since: 0, include_docs: true }).on("change", async ({ id, doc }) => {
    if (!id.startsWith("task-") || done.has(id)) return;
    done.add(id);
    const outcome = await tasks[doc.task](doc).then((result) => ({ result }), ({ message }) => ({ error: message }));
    await here.put({ _id: id.replace("task-", "done-"), ...outcome });
  });
}

work().catch(({ status, message }) => tell({ error: message, status }));
