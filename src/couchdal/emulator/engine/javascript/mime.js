// Chooses a response by the Accept header, for functions that call `provides`. Source: share/server/mimeparse.js.
(function () {
  "use strict";

  const defaults = {
    all: ["*/*"],
    text: ["text/plain; charset=utf-8", "txt"],
    html: ["text/html; charset=utf-8"],
    xhtml: ["application/xhtml+xml", "xhtml"],
    xml: ["application/xml", "text/xml", "application/x-xml"],
    js: ["text/javascript", "application/javascript", "application/x-javascript"],
    css: ["text/css"],
    ics: ["text/calendar"],
    csv: ["text/csv"],
    rss: ["application/rss+xml"],
    atom: ["application/atom+xml"],
    yaml: ["application/x-yaml", "text/yaml"],
    multipart_form: ["multipart/form-data"],
    url_encoded_form: ["application/x-www-form-urlencoded"],
    json: ["application/json", "text/x-json"],
  };
  const typesOf = {};
  const keyOf = {};

  function registerType(key, ...types) {
    typesOf[key] = types;
    for (const type of types) keyOf[type] = key;
  }
  for (const key in defaults) registerType(key, ...defaults[key]);

  function parsedRange(text) {
    const [name, ...rest] = text.split(";");
    const parameters = {};
    for (const [key, value, ...more] of rest.map((one) => one.split("=")))
      if (value !== undefined && !more.length) parameters[key.trim()] = value.trim();
    const quality = parseFloat(parameters.q);
    if (!(quality >= 0 && quality <= 1)) parameters.q = "1";
    const whole = name.trim() === "*" ? "*/*" : name.trim();
    return [...whole.split("/"), undefined].slice(0, 2).concat([parameters]);
  }

  const fits = (one, other) => one === other || one === "*" || other === "*";

  // How well the best range fits, and its quality.
  function fitness(type, ranges) {
    const [family, kind, wanted] = parsedRange(type);
    let best = -1;
    let quality = 0;
    for (const [itsFamily, itsKind, parameters] of ranges) {
      if (!fits(itsFamily, family) || !fits(itsKind, kind)) continue;
      let fit = (itsFamily === family ? 100 : 0) + (itsKind === kind ? 10 : 0);
      for (const name in wanted) if (name !== "q" && parameters[name] && parameters[name] === wanted[name]) fit += 1;
      if (fit > best) [best, quality] = [fit, parameters.q];
    }
    return [best, parseFloat(quality)];
  }

  function bestType(types, accept) {
    const ranges = accept.split(",").map(parsedRange);
    // CouchDB compares these as texts.
    const weighted = types.map((type, place) => [fitness(type, ranges), place, type]).sort();
    const last = weighted[weighted.length - 1];
    return last[0][1] ? last[2] : "";
  }

  let provided = [];
  let contentType = null;

  function run(request, design) {
    const accept = request.headers["Accept"];
    let key;
    if (request.query && request.query.format) {
      key = request.query.format;
      contentType = typesOf[key][0];
    } else if (accept) {
      const types = provided.reverse().flatMap(([one]) => typesOf[one] || []);
      contentType = bestType(types, accept);
      key = keyOf[contentType];
    } else {
      key = provided[0][0];
      contentType = typesOf[key][0];
    }
    const chosen = key && provided.find(([one]) => one == key);
    if (chosen && chosen[1]) return chosen[1].call(design);
    const offered = provided.map(([one]) => typesOf[one].join(", ") || one).join(", ");
    throw ["error", "not_acceptable", `Content-Type ${accept || key} not supported, try one of: ${offered}`];
  }

  return {
    registerType,
    provides: (type, run) => void provided.push([type, run]),
    reset: () => void ((provided = []), (contentType = null)),
    isUsed: () => provided.length > 0,
    contentType: () => contentType,
    run,
  };
})()
