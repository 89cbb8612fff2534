"""``_node/{name}``: information about a node, and its configuration. Source: ``chttpd_node``."""

from __future__ import annotations

from collections.abc import Mapping

from couchdal.emulator.engine.server.configured import (
    check_allowed,
    configuration_of,
    delete_value,
    reload,
    section,
    sections,
    set_value,
    setting,
)
from couchdal.emulator.engine.server.node_figures import system_figures, system_metrics, versions_of
from couchdal.emulator.engine.server.statistics import exposition, statistics_tree
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, NotFound, PreconditionFailed
from couchdal.http.answers import json_response
from couchdal.http.json_text import JSON
from couchdal.http.messages import Response
from couchdal.pace import begin_if_large

#: The name of the only node.
NODE = "nonode@nohost"
# Words that are atoms in every CouchDB. Erlang takes them for names of nodes that are down.
_ATOMS = frozenset(("all", "couch", "couchdb", "error", "false", "foo", "node", "ok", "true", "undefined"))
_CHANNELS = (
    *("upgrade_views", "upgrade_dbs", "slack_views", "slack_dbs", "ratio_views", "ratio_dbs", "index_cleanup"),
)
_IDLE: JSON = {"waiting": {"size": 0, "min": 0, "max": 0}, "starting": 0, "active": 0}


def refuse_nameless(call: Call) -> Response:
    """Any method: a path without the name of a node."""
    raise BadRequest("Incomplete path to _node request")


def read_name(call: Call) -> Response:
    """Any method: the name of this node for ``_local``, or CouchDB's welcome if the path has the name itself."""
    if call.args["node"] == "_local":
        return json_response({"name": NODE})
    check_node(call)
    values = configuration_of(call.server).values
    return json_response(
        {
            "couchdb": "Welcome",
            "uuid": values.get("couchdb", {}).get("uuid"),
            "version": call.server.version.number,
            "vendor": values.get("vendor", {}),
        }
    )


def read_config(call: Call) -> Response:
    """GET: all sections."""
    check_node(call)
    shown = {_shown(name): _shown_section(values) for name, values in sections(call.server).items()}
    begin_if_large(shown)
    return json_response(shown)


def read_section(call: Call) -> Response:
    """GET: the values of one section, empty for an unknown one."""
    check_node(call)
    shown = _shown_section(section(call.server, call.args["section"]))
    begin_if_large(shown)
    return json_response(shown)


def _shown_section(values: Mapping[str, str]) -> dict[str, str]:
    return {_shown(key): _shown(value) for key, value in values.items()}


def _shown(text: str) -> str:
    """Return a text of the configuration with a replacement character for each byte that is not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def reload_config(call: Call) -> Response:
    """POST: forget the values that were set without being saved."""
    check_node(call)
    reload(call.server)
    return json_response({"ok": True})


def read_value(call: Call) -> Response:
    """GET: a value."""
    check_node(call)
    return _answer(setting(call.server, call.args["section"], call.args["key"]))


def write_value(call: Call) -> Response:
    """PUT: set a value. The answer is the old value, or an empty text."""
    name, key = call.args["section"], call.args["key"]
    check_allowed(name)
    value = call.json()
    if not isinstance(value, str):
        raise BadRequest("a JSON string expected")
    check_node(call)
    return _answer(set_value(call.server, name, key, value, saved=_is_saved(call)))


def forget_value(call: Call) -> Response:
    """DELETE: forget a value. The answer is the old value."""
    name, key = call.args["section"], call.args["key"]
    check_allowed(name)
    check_node(call)
    return _answer(delete_value(call.server, name, key, saved=_is_saved(call)))


def stats(call: Call) -> Response:
    """GET: the statistics, all of them or those below a path."""
    check_node(call)
    found: JSON = statistics_tree(call.server)
    for name in call.args.get("path", "").split("/"):
        if name:
            found = found.get(name) if isinstance(found, dict) else None
    return json_response(found)


def prometheus(call: Call) -> Response:
    """GET: the statistics, in the text format of Prometheus."""
    check_node(call)
    text = exposition(call.server) + system_metrics(call.server)
    return Response(200, {"content-type": "text/plain; version=2.0"}, body=text.encode())


def system(call: Call) -> Response:
    """GET: figures of the process. Those of Erlang's virtual machine are 0."""
    check_node(call)
    return json_response(system_figures(call.server))


def versions(call: Call) -> Response:
    """GET: the versions of the server's components: hashes, ICU and QuickJS. The emulator has no Erlang."""
    check_node(call)
    return json_response(versions_of())


def smoosh_status(call: Call) -> Response:
    """GET: the queues of compactions, which are always empty because each compaction is done at once."""
    return json_response({"channels": dict.fromkeys(_CHANNELS, _IDLE)})


def restart(call: Call) -> Response:
    """POST: do what a restart does: set counters to 0, and forget configuration values that were not saved."""
    check_node(call)
    reload(call.server)
    call.server.journal.counts.clear()
    return json_response({"ok": True})


def not_found(call: Call) -> Response:
    """Any method: a path that is too long."""
    raise NotFound()


def check_node(call: Call) -> None:
    """Raise ``NotFound`` for the name of a node that does not exist."""
    name = call.args["node"]
    if name in _ATOMS:
        raise PreconditionFailed(f"{name} is down", error="nodedown")
    if name not in ("_local", NODE):
        raise NotFound(f"no such node: {name}")


def _is_saved(call: Call) -> bool:
    return call.header("x-couch-persist") != "false"


def _answer(value: str | None) -> Response:
    if value is None:
        raise NotFound("unknown_config_value")
    begin_if_large(value)
    return json_response(value)
