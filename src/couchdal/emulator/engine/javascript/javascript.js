// Runs the functions of one design document as CouchDB's query server does: compiles them, provides their API, and
// translates what they throw. The value of this script is the one function that Python calls.
(function () {
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

  function resolve(names, module) {
    for (const name of names) {
      if (name === "." || name === "..") {
        if (!module.parent || (name === ".." && !module.parent.parent))
          throw failure("invalid_require_path", "Object has no parent " + stringify(module.current));
        const up = name === "." ? module : module.parent;
        const id = name === "." ? module.id : module.id.slice(0, module.id.lastIndexOf("/"));
        module = { id, parent: up.parent, current: up.parent.current };
        continue;
      }
      const parent = module || { current: root };
      const current = parent.current[name];
      if (current === undefined)
        throw failure("invalid_require_path", `Object has no property "${name}". ${stringify(parent.current)}`);
      module = { id: parent.id ? `${parent.id}/${name}` : name, parent, current };
    }
    if (typeof module.current !== "string")
      throw failure("invalid_require_path", `Must require a JavaScript string, not: ${typeof module.current}`);
    return { id: module.id, parent: module.parent, current: module.current, exports: {} };
  }

  function require(path, from) {
    const names = path.split("/");
    const relative = names[0] === "." || names[0] === "..";
    const module = resolve(names, relative ? from : undefined);
    if (!Object.hasOwn(modules, module.id)) {
      // Set before the module runs, so modules can require each other in a circle.
      modules[module.id] = {};
      try {
        const run = globalEval(`(function (module, exports, require) { ${module.current}\n })`);
        run.call(globalThis, module, module.exports, (name) => require(name, module));
      } catch (thrown) {
        throw failure("compilation_error", `Module require('${path}') raised error ${thrown}`);
      }
      modules[module.id] = module.exports;
    }
    return modules[module.id];
  }

  const compiled = new Map();

  function evaluated(source) {
    try {
      // A named function is a statement without a value.
      return globalEval(source);
    } catch (thrown) {
      if (!(thrown instanceof SyntaxError)) throw thrown;
    }
    // An anonymous function is a syntax error as a statement. CouchDB's engine accepts it as an expression.
    return globalEval(`(${source.replace(/[\s;]+$/, "")}\n)`);
  }

  function compile(source) {
    if (!source) throw failure("not_found", "missing function");
    if (!compiled.has(source)) {
      let made;
      try {
        made = evaluated(source);
      } catch (thrown) {
        throw failure("compilation_error", `${thrown} (${source})`);
      }
      if (typeof made !== "function")
        throw failure("compilation_error", `Expression does not eval to a function. (${source})`);
      compiled.set(source, made);
    }
    return compiled.get(source);
  }

  let emitted = [];
  let chunks = [];
  let started = {};
  let isNew = false;
  let rows = [];
  let list = null;

  Object.assign(globalThis, {
    emit: (key, value) => void emitted.push([key, shown(value)]),
    sum: (values) => {
      let total = 0;
      for (const name in values) total += values[name];
      return total;
    },
    log,
    toJSON: stringify,
    isArray: (value) => Array.isArray(value),
    require: (path) => require(path),
    start: (response) => void ((started = response || {}), (isNew = true)),
    send: (chunk) => void chunks.push(chunk.toString()),
    getRow,
  });

  // Ignore what a map or reduce function throws, except for the values that stop the query server.
  function ignoreThrown(thrown) {
    tellThrown(thrown);
    // CouchDB uses loose comparison, too. For null and undefined, member access throws another error.
    if (thrown == "fatal_error") throw failure("map_runtime_error", "function raised 'fatal_error'");
    if (thrown[0] == "fatal") throw thrown;
    if (thrown.name == "InternalError") throw failure(thrown.name, thrown.message);
  }

  function map(sources, document) {
    freeze(document);
    subject = document;
    return sources.map((source) => {
      emitted = [];
      running = source;
      isThrownTold = false;
      try {
        compile(source)(document);
        return emitted;
      } catch (thrown) {
        ignoreThrown(thrown);
        return [];
      }
    });
  }

  function reduce(source, keys, values, again) {
    const run = compile(source);
    running = source;
    let reduction = null;
    try {
      reduction = run(keys, values, again);
    } catch (thrown) {
      ignoreThrown(thrown);
    }
    return reduction;
  }

  const asResponse = (value) => (typeof value === "string" ? { body: value } : value);

  // In CouchDB, a list function answers in turns: to the head, to each row, and to the end. At the end of each turn,
  // CouchDB sends the chunks. A function can replace the head until the first chunk is sent.
  function flush() {
    if (isNew && !list.text) list.heads.push(started);
    list.text += chunks.join("");
    chunks = [];
    isNew = false;
  }

  function getRow() {
    if (list.turn === "end") return null;
    flush();
    list.turn = rows.length ? "row" : "end";
    return rows.length ? rows.shift() : null;
  }

  function rendered(run, turn = "end") {
    chunks = [];
    started = {};
    isNew = true;
    list = { heads: [], text: "", turn };
    try {
      return run();
    } catch (thrown) {
      tellThrown(thrown);
      if ((thrown.error && thrown.reason) || isFailure(thrown)) throw thrown;
      throw failure("render_error", `function raised error: ${thrown.toString()} \nstacktrace: ${thrown.stack}`);
    }
  }

  function checked(response, kind) {
    const type = typeof response;
    if (response === null || (type !== "object" && type !== "string"))
      throw failure("render_error", `undefined response from ${kind} function`);
    return asResponse(response);
  }

  function shownBy(run, design, document, request) {
    try {
      return run.call(design, document, request);
    } catch (thrown) {
      tellThrown(thrown);
      // For a missing document, the error is 404 unless the function handles null.
      throw document === null && request.path.length > 5 ? failure("not_found", "document not found") : thrown;
    }
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
        const response = asResponse(shownBy(run, design, document, request) || {});
        if (chunks.length) {
          response.headers = { ...response.headers, ...started };
          response.body = chunks.join("") + (response.body || "");
        }
        return checked(response, "show");
      }),
    updates: (run, design, document, request) =>
      rendered(() => {
        if (request.method === "GET") throw failure("method_not_allowed", "Update functions do not allow GET");
        const [changed, response] = run.call(design, document, request);
        return [changed, checked(response, "update")];
      }),
    lists: (run, design, head, request, given) => {
      rows = given;
      try {
        const tail = rendered(() => run.call(design, head, request), "head");
        if (list.turn === "head") getRow();
        if (tail !== undefined) chunks.push(tail);
        flush();
      } catch (thrown) {
        list.error = described(thrown);
      }
      return list;
    },
  };

  function call(path, ...args) {
    let source = root;
    for (const name of path) source = source[name];
    subject = args[0];
    return kinds[path[0]](compile(source), root, ...args);
  }

  function load(design) {
    root = design;
    modules = {};
  }

  const commands = { load, compile: (source) => void compile(source), map, reduce, call };

  // The error that the query server reports to CouchDB: a word and a reason, unless a function threw something else.
  function described(thrown) {
    if (thrown === null) return ["internal_error", null];
    if (thrown === undefined) return ["os_process_error", "{exit_status,1}"];
    if (isFailure(thrown)) return thrown.slice(1);
    if (thrown.error && thrown.reason) return [thrown.error, thrown.reason];
    if (thrown.name) return [thrown.name, thrown];
    return ["unnamed_error", null];
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
})();
