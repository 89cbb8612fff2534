// Runs the functions of one design document as CouchDB's query server does: compiles them, provides their API, and
// translates what they throw. The value of this script is a function: called with ``mime.js``, it returns what Python calls.
// ``tellTurn``, if it is not null, gets what a list function sends, as soon as CouchDB would send it.
(function (mime, tellTurn) {
  "use strict";

  // Copies that user code cannot replace.
  const { parse, stringify } = JSON;
  const globalEval = eval;

  // CouchDB's build of QuickJS lacks these. Without them here, no function can depend on them.
  const lacking = {
    globalThis: `ArrayBuffer AsyncDisposableStack Atomics BigInt64Array BigUint64Array DOMException DataView DisposableStack
      FinalizationRegistry Float16Array Float32Array Float64Array Int16Array Int32Array Int8Array Iterator Promise Proxy
      SharedArrayBuffer SuppressedError Uint16Array Uint32Array Uint8Array Uint8ClampedArray WeakRef atob btoa performance
      queueMicrotask`,
    Array: "fromAsync",
    Error: "captureStackTrace isError prepareStackTrace stackTraceLimit",
    JSON: "isRawJSON rawJSON",
    Math: "f16round sumPrecise",
    RegExp: "escape",
    Symbol: "asyncDispose dispose",
    "Map.prototype": "getOrInsert getOrInsertComputed",
    "RegExp.prototype": "unicodeSets",
    "Set.prototype": "difference intersection isDisjointFrom isSubsetOf isSupersetOf symmetricDifference union",
    "String.prototype": "localeCompare normalize",
    "WeakMap.prototype": "getOrInsert getOrInsertComputed",
  };
  for (const [path, names] of Object.entries(lacking)) {
    const holder = path.split(".").reduce((value, name) => value[name], globalThis);
    for (const name of names.split(/\s+/)) Reflect.deleteProperty(holder, name);
  }

  // All functions and this script share these prototypes. A function must not change how all values are serialized.
  for (const prototype of [Object, Array, String, Number, Boolean].map((kind) => kind.prototype)) {
    Object.defineProperty(prototype, "toJSON", {
      get: () => undefined,
      set(value) {
        if (this !== prototype)
          Object.defineProperty(this, "toJSON", { value, writable: true, enumerable: true, configurable: true });
      },
    });
  }

  // What functions log and throw while a command runs: level, text, line, document id and source of each message.
  const MOST_TOLD = 100;
  const LONGEST_TOLD = 1000;
  const OWN_FRAMES = /^\s*at (log|emit|sum|send|start|getRow|require|resolve)\b/;
  let told = [];
  let isThrownTold = false;
  let subject = null;
  let running = null;

  function tell(level, text, stack) {
    if (told.length > MOST_TOLD) return;
    const frame = String(stack || "").split("\n").find((one) => /<input>:\d+/.test(one) && !OWN_FRAMES.test(one));
    const line = frame ? Number(/<input>:(\d+)/.exec(frame)[1]) : null;
    const id = subject !== null && typeof subject === "object" && typeof subject._id === "string" ? subject._id : null;
    if (told.length === MOST_TOLD) told.push([level, "further messages are dropped", null, null, null]);
    else told.push([level, text.length > LONGEST_TOLD ? text.slice(0, LONGEST_TOLD) + "..." : text, line, id, running]);
  }

  function tellThrown(thrown) {
    if (isThrownTold) return;
    isThrownTold = true;
    try {
      const text = isError(thrown) ? `${thrown.name}: ${thrown.message}` : stringify(thrown);
      tell("thrown", String(typeof thrown === "string" ? thrown : text), isError(thrown) ? thrown.stack : "");
    } catch (_) {
      tell("thrown", "a value that has no text", "");
    }
  }

  function log(message) {
    try {
      tell("log", String(typeof message === "string" ? message : stringify(shown(message))), new Error().stack);
    } catch (_) {
      tell("log", "a value that has no text", "");
    }
  }

  const failure = (word, reason) => ["error", word, reason];
  const isFailure = (thrown) => Array.isArray(thrown) && (thrown[0] === "error" || thrown[0] === "fatal");
  const isError = (value) =>
    typeof value === "object" && value !== null && "stack" in value && "name" in value && "message" in value;
  const shown = (value) => (isError(value) ? { error: value.name, message: value.message } : value);

  function freeze(value) {
    if (value === null || typeof value !== "object" || Object.isFrozen(value)) return;
    Object.freeze(value);
    for (const name of Reflect.ownKeys(value)) freeze(value[name]);
  }

  let root = {};
  let modules = {};

  // Follow the names of a path from a module. Only an absolute path starts at the root.
  function resolve(names, module, top) {
    for (const name of names) {
      if (name === "." || name === "..") {
        if (!module.parent || (name === ".." && !module.parent.parent))
          throw failure("invalid_require_path", "Object has no parent " + stringify(module.current));
        const { id, parent, current } = module;
        module =
          name === "." ? { id, parent, current } : { id: id.slice(0, id.lastIndexOf("/")), parent: parent.parent, current: parent.current };
      } else {
        const parent = top ? { current: top } : module;
        const current = parent.current[name];
        if (current === undefined)
          throw failure("invalid_require_path", `Object has no property "${name}". ${stringify(parent.current)}`);
        module = { id: parent.id ? `${parent.id}/${name}` : name, parent, current };
      }
      top = undefined;
    }
    if (typeof module.current !== "string")
      throw failure("invalid_require_path", `Must require a JavaScript string, not: ${typeof module.current}`);
    return { current: module.current, parent: module.parent, id: module.id, exports: {} };
  }

  function requireFrom(top, loaded, path, from) {
    const module = resolve(path.split("/"), from.parent, top);
    if (!Object.hasOwn(loaded, module.id)) {
      // Set before the module runs, so modules can require each other in a circle.
      loaded[module.id] = {};
      try {
        const run = globalEval(`(function (module, exports, require) { ${module.current}\n })`);
        run.call(globalThis, module, module.exports, (name) => requireFrom(top, loaded, name, module));
      } catch (thrown) {
        throw failure("compilation_error", `Module require('${path}') raised error ${thrown.toString()}`);
      }
      loaded[module.id] = module.exports;
    }
    return loaded[module.id];
  }

  // Each function has its own globals, as if it ran in its own realm: the global object holds them while it runs.
  const shared = new Map();
  let api = [];
  let apiValues = [];
  const scopes = new WeakMap();
  let held = { globals: new Map(), require: null };

  function enter(scope) {
    if (scope === held) return;
    if (!isUntouched()) leave();
    held = scope;
    for (const [name, value] of scope.globals) globalThis[name] = value;
  }

  // Most functions add no globals. Looking at all of them for each document would take longer than the functions.
  function isUntouched() {
    if (held.globals.size || Reflect.ownKeys(globalThis).length !== shared.size) return false;
    return api.every((name, place) => globalThis[name] === apiValues[place]);
  }

  function leave() {
    const { globals } = held;
    globals.clear();
    for (const name of Reflect.ownKeys(globalThis)) {
      const value = globalThis[name];
      if (shared.has(name) && Object.is(shared.get(name), value)) continue;
      globals.set(name, value);
      if (shared.has(name)) globalThis[name] = shared.get(name);
      else Reflect.deleteProperty(globalThis, name);
    }
    for (const [name, value] of shared) if (!Object.hasOwn(globalThis, name)) globalThis[name] = value;
  }

  function evaluated(source) {
    try {
      // A named function is a statement without a value.
      return globalEval(source);
    } catch (thrown) {
      if (!(thrown instanceof SyntaxError)) throw thrown;
    }
    // An anonymous function is a syntax error as a statement. CouchDB's engine accepts it as an expression, but no class,
    // generator or asynchronous function.
    if (/^\s*(class\b|async\s+function\b|function\s*\*)/.test(source)) throw new SyntaxError("function name expected");
    return globalEval(`(${source.replace(/[\s;]+$/, "")}\n)`);
  }

  // Compile a function. It can load the modules that ``require`` finds.
  function compile(source, require = null) {
    if (!source) throw failure("not_found", "missing function");
    const scope = { globals: new Map(), require };
    enter(scope);
    let made;
    try {
      made = evaluated(String(source));
    } catch (thrown) {
      throw failure("compilation_error", `${thrown.toString()} (${source})`);
    }
    if (typeof made !== "function")
      throw failure("compilation_error", `Expression does not eval to a function. (${source})`);
    scopes.set(made, scope);
    return made;
  }

  // The error word for an answer that CouchDB did not expect from the query server.
  const UNEXPECTED = "unexpected_answer";
  let emitted = [];
  let chunks = [];
  let started = {};
  let isNew = false;
  let list = null;

  const emit = (key, value) => void emitted.push([key, shown(value)]);
  Object.assign(globalThis, {
    emit,
    sum: (values) => {
      let total = 0;
      for (const name in values) total += values[name];
      return total;
    },
    log,
    toJSON: stringify,
    isArray: (value) => Array.isArray(value),
    provides: mime.provides,
    registerType: mime.registerType,
    start: (response) => void ((started = response || {}), (isNew = true)),
    send: (chunk) => void chunks.push(chunk.toString()),
    getRow,
    require: (path) => {
      if (held.require === null) throw new ReferenceError("'require' is not defined");
      return held.require(path);
    },
  });
  for (const name of Reflect.ownKeys(globalThis)) shared.set(name, globalThis[name]);
  api = Object.keys(globalThis);
  apiValues = api.map((name) => globalThis[name]);

  // Ignore what a map or reduce function throws, except for the values that stop the query server.
  function ignoreThrown(thrown) {
    tellThrown(thrown);
    // CouchDB uses loose comparison, too. For null and undefined, member access throws another error.
    if (thrown == "fatal_error") throw failure("map_runtime_error", "function raised 'fatal_error'");
    if (thrown[0] == "fatal") throw thrown;
    if (thrown.name == "InternalError") throw failure(thrown.name, thrown.message);
  }

  let mapSources = [];
  let mapFunctions = [];

  // A map function sees only the modules in the library of its views.
  function mapFunction(source) {
    const top = { views: { lib: root.views && root.views.lib } };
    const loaded = {};
    return compile(source, (path) => requireFrom(top, loaded, path, {}));
  }

  function map(sources, document) {
    freeze(document);
    subject = document;
    if (sources.length !== mapSources.length || sources.some((source, place) => source !== mapSources[place])) {
      mapSources = [];
      mapFunctions = sources.map(mapFunction);
      mapSources = sources;
    }
    return sources.map((source, place) => {
      emitted = [];
      running = source;
      isThrownTold = false;
      try {
        enter(scopes.get(mapFunctions[place]));
        mapFunctions[place](document);
        return emitted;
      } catch (thrown) {
        ignoreThrown(thrown);
        return [];
      }
    });
  }

  const reduces = new Map();

  function reduce(source, keys, values, again) {
    if (!reduces.has(source)) reduces.set(source, compile(source));
    const functions = [reduces.get(source)];
    // Each call of a reduce function starts with new globals.
    enter({ globals: new Map(scopes.get(functions[0]).globals), require: null });
    running = source;
    let reduction = null;
    try {
      reduction = functions[0](keys, values, again);
    } catch (thrown) {
      ignoreThrown(thrown);
    }
    return reduction;
  }

  const asResponse = (value) => (typeof value === "string" ? { body: value } : value);

  // The functions below assign to what a function returned, which may be a number: then nothing happens.
  const assign = (target, name, value) => void Reflect.set(Object(target), name, value);

  function withContentType(response) {
    assign(response, "headers", response.headers || {});
    const headers = response.headers;
    if (mime.contentType()) assign(headers, "Content-Type", headers["Content-Type"] || mime.contentType());
    return response;
  }

  // In CouchDB, a list function answers in turns: to the head, to each row, and to the end. Each message has the chunks
  // of a turn, and the head of the answer if the function set one.
  function answerTurn(kind) {
    const head = kind === "start" ? withContentType(started || {}) : isNew ? started : undefined;
    if (kind === "start") started = {};
    isNew = false;
    const turn = stringify([chunks, head]);
    list.turns.push(parse(turn));
    if (tellTurn !== null) tellTurn(turn);
    chunks = [];
  }

  function getRow() {
    if (list === null) {
      // CouchDB does not expect this answer, and ends the process.
      const answer = parse(stringify(["start", chunks, withContentType(started || {})]));
      reset();
      throw failure(UNEXPECTED, answer);
    }
    if (list.turn === "end") return null;
    answerTurn(list.turn === "head" ? "start" : "chunks");
    list.turn = list.place < list.rows.length ? "row" : "end";
    return list.turn === "row" ? list.rows[list.place++] : null;
  }

  function reset() {
    chunks = [];
    started = {};
    isNew = false;
    mime.reset();
  }

  function rendered(run, word = "render_error") {
    try {
      return run();
    } catch (thrown) {
      tellThrown(thrown);
      if ((thrown.error && thrown.reason) || isFailure(thrown)) throw thrown;
      throw failure(word, `function raised error: ${thrown.toString()} \nstacktrace: ${thrown.stack}`);
    }
  }

  // Arrays pass here, because functions run in another realm there. CouchDB fails at them later.
  const isAnswer = (value) => typeof value === "string" || (typeof value === "object" && value !== null);

  function checked(response, kind) {
    if (!isAnswer(response)) throw failure("render_error", `undefined response from ${kind} function`);
    return asResponse(response);
  }

  function showAnswer(run, design, document, request) {
    reset();
    list = null;
    let response = asResponse(run.call(design, document, request) || {});
    if (chunks.length) {
      assign(response, "headers", response.headers || {});
      for (const name in started) assign(response.headers, name, started[name]);
      assign(response, "body", chunks.join("") + (response.body || ""));
      chunks = [];
      started = {};
    }
    if (mime.isUsed()) {
      const provided = asResponse(mime.run(request, design) || {});
      assign(response, "body", (response.body || "") + chunks.join("") + (provided.body || ""));
      response = withContentType(response);
    }
    return checked(response, "show");
  }

  const kinds = {
    filters: (run, design, documents, request) => documents.map((one) => Boolean(run.call(design, (subject = one), request))),
    views: (run, design, documents) =>
      documents.map((one) => {
        emitted = [];
        subject = one;
        run(one);
        return emitted.length > 0;
      }),
    validate_doc_update: (run, design, ...args) => {
      try {
        run.apply(design, args);
      } catch (thrown) {
        tellThrown(thrown);
        // For null and undefined, member access throws another error.
        if ((thrown.name && thrown.stack) || isFailure(thrown)) throw thrown;
        return thrown;
      }
      return 1;
    },
    shows: (run, design, document, request) =>
      rendered(() => {
        try {
          return showAnswer(run, design, document, request);
        } catch (thrown) {
          // For a missing document, every error is 404.
          if (document !== null || request.path.length <= 5 || (isFailure(thrown) && thrown[1] === UNEXPECTED)) throw thrown;
          tellThrown(thrown);
          throw failure("not_found", "document not found");
        }
      }),
    updates: (run, design, document, request) =>
      rendered(() => {
        if (request.method === "GET") throw failure("method_not_allowed", "Update functions do not allow GET");
        const result = run.call(design, document, request);
        const changed = result[0];
        return [changed, checked(result[1], "update")];
      }),
    lists: (run, design, head, request, rows) => {
      reset();
      list = { turns: [], turn: "head", rows, place: 0, error: null };
      try {
        rendered(() => {
          let tail = run.call(design, head, request);
          if (mime.isUsed()) tail = mime.run(request, design);
          if (list.turn === "head") getRow();
          if (tail !== undefined) chunks.push(tail);
          answerTurn("end");
        });
      } catch (thrown) {
        list.error = described(thrown);
      }
      const { turns, turn, error } = list;
      list = null;
      return { turns, turn, error };
    },
    rewrites: (run, design, request) => {
      const result = rendered(() => run.call(design, request), "rewrite_error");
      if (!result) return null;
      return [typeof result === "string" ? { path: result, method: request.method } : result];
    },
  };

  function call(path, ...args) {
    let holder = root;
    for (const name of path.slice(0, -1)) holder = holder[name];
    const name = path[path.length - 1];
    if (!holder[name])
      throw failure("not_found", `missing ${path[0]} function ${name} on design doc ${root._id}`);
    subject = args[0];
    if (typeof holder[name] !== "function") {
      modules = root._module_cache = root._module_cache || modules;
      holder[name] = compile(holder[name], (from) => requireFrom(root, modules, from, {}));
    }
    enter(scopes.get(holder[name]));
    return kinds[path[0]](holder[name], root, ...args);
  }

  function load(design) {
    root = design;
    modules = {};
  }

  // What a list function had sent before it was stopped.
  const sent = () => (list === null ? [] : list.turns.map((turn) => stringify(turn)));

  const commands = { load, compile: (source) => void compile(source), map, reduce, call, sent };

  // The error that the query server reports to CouchDB: a word and a reason, unless a function threw something else.
  function described(thrown) {
    if (thrown === null) return ["internal_error", null];
    if (thrown === undefined) return ["os_process_error", "{exit_status,1}"];
    if (isFailure(thrown)) return thrown.slice(1);
    if (thrown.error && thrown.reason) return [thrown.error, thrown.reason];
    if (thrown.name) return [thrown.name, thrown];
    return ["unnamed_error", thrown.stack === undefined ? null : thrown.stack];
  }

  return (text) => {
    const [name, ...args] = parse(text);
    told = [];
    isThrownTold = false;
    subject = running = null;
    let answer;
    try {
      const result = commands[name](...args);
      answer = stringify([true, result === undefined ? null : result]);
    } catch (thrown) {
      tellThrown(thrown);
      answer = stringify([false, described(thrown)]);
    }
    return told.length ? `${answer.slice(0, -1)},${stringify(told)}]` : answer;
  };
})
