"""The pytest plugin: its options, settings, marks and hooks.

On the memory server, a test finds only what its fixtures wrote, even through handles created on import. The
plugin does not import the emulator, so it costs next to nothing in test runs that do not use it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator, Mapping
from functools import partial

import pytest

from couchdal.testing import outcomes
from couchdal.testing.existing import add_admin, check_version, databases_of
from couchdal.testing.fixtures import async_dal, couch_intercept, couch_server, dal, dal_backend, make_dal
from couchdal.testing.isolation import Isolation
from couchdal.testing.threads import OutlivingThreads

__all__ = ["async_dal", "couch_intercept", "couch_server", "dal", "dal_backend", "make_dal"]

_ISOLATION = pytest.StashKey[Isolation]()
_INTERCEPTED = pytest.StashKey[list[object]]()  # those that may go on after the current test
_ENVIRONMENT = pytest.StashKey[dict[str, str | None]]()
_BACKENDS = ("memory", "sqlite", "couch", "both", "compare")
_EMULATED = ("memory", "sqlite")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("couchdal", "CouchDB, real or emulated")
    group.addoption(
        "--dal-backend",
        choices=_BACKENDS,
        help="where tests run: memory (the default); sqlite: on memory, with the data of COUCHDAL_DATA; couch: the"
        " CouchDB at COUCHDB_URL; both: each test on memory and on CouchDB, with a report of the differences; compare:"
        " on CouchDB, failing at the first answer that the emulator would give differently",
    )
    group.addoption(
        "--dal-indexes",
        choices=("watch", "require"),
        help="queries without an index: require makes them fail, watch collects them for suggest_indexes()",
    )
    group.addoption(
        "--dal-couchdb-version",
        metavar="VERSION",
        help="the version of CouchDB that the memory server answers as: 3.3, 3.4 or 3.5 (the default)",
    )
    group.addoption(
        "--dal-allow-host", action="append", default=[], metavar="HOST", help="allow tests to connect to HOST"
    )
    group.addoption(
        "--dal-coverage",
        action="append",
        nargs="?",
        const="term",
        metavar="FORMATS",
        help="report which endpoints, parameters, operators and errors tests covered: term (default), html, json",
    )
    group.addoption(
        "--dal-check",
        action="store_true",
        help="check the data of each memory server that a test used, and fail the test that broke it",
    )
    group.addoption(
        "--dal-record-requests",
        metavar="FILE",
        help="write the shapes of all requests to FILE, for couchdal certify",
    )
    group.addoption(
        "--dal-databases",
        action="append",
        default=[],
        metavar="NAMES",
        help="databases that exist in every test, besides those of dal_databases",
    )
    group.addoption(
        "--dal-live-database",
        action="append",
        default=[],
        metavar="NAME",
        help="a database of the live server that tests use as it is; all others get private names",
    )
    group.addoption(
        "--dal-admin",
        metavar="NAME:PASSWORD",
        help="an administrator of the memory server, for tests that send credentials; others need none",
    )
    parser.addini("dal_admin", "an administrator of the memory server, as name:password", default="")
    parser.addini("dal_intercept", "origins whose requests by any HTTP client tests answer", type="args", default=[])
    parser.addini("dal_databases", "databases that exist in every test", type="args", default=[])
    parser.addini("dal_known_differences", "a TOML file of answers that may differ, for compare", default="")
    parser.addini("dal_check", "check the memory server's data after each test", type="bool", default=False)
    parser.addini("dal_backend", "where tests run: memory, sqlite, couch, both or compare", default="")
    parser.addini("dal_indexes", "queries without an index: require makes them fail, watch collects them", default="")
    parser.addini("dal_couchdb_version", "the version of CouchDB that the memory server answers as", default="")
    parser.addini("dal_allowed_hosts", "hosts that tests may connect to, besides this machine", type="args", default=[])
    parser.addini("dal_seed", "files with documents for every test, relative to the root folder", "args", default=[])


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before any module under test creates its CouchDAL().
    early_config.stash[_ENVIRONMENT] = {}
    _set_environment(early_config, vars(early_config.known_args_namespace))


def pytest_configure(config: pytest.Config) -> None:
    messages = logging.getLogger("couchdal.javascript")
    if messages.level == logging.NOTSET:
        # pytest shows what functions of design documents log below a test that failed.
        messages.setLevel(logging.INFO)
    config.addinivalue_line(
        "markers",
        "dal_faults(kind, ...): inject a fault; kind is a method of couchdal.Faults, followed by its arguments",
    )
    config.addinivalue_line(
        "markers",
        "dal_intercept(*origins): answer requests to these origins, such as 'http://couchdb:5984', by any HTTP client",
    )
    config.addinivalue_line(
        "markers",
        "dal(seed=..., database=..., emulator=..., backend=...): load the documents of these files before the test;"
        " with emulator=True, skip the test on other backends; with backend='memory' or 'couch', run it there",
    )
    known = config.stash.setdefault(_ENVIRONMENT, {})
    if not known or (os.environ.get("COUCHDB_URL") and not config.pluginmanager.has_plugin("dal-choice")):
        # The hook above came too early: a conftest loaded the plugin with ``pytest_plugins``, or named the CouchDB.
        _set_environment(config, vars(config.option))
    add_admin(config)
    live = None
    databases = databases_of(config)
    if _chosen(config)[0] not in _EMULATED:
        from couchdal.testing.mapping import start

        live = start(config, databases)
        if _chosen(config)[0] == "compare":
            from couchdal.testing.compare import start as start_comparison

            start_comparison(config, live)
    if config.getini("dal_intercept"):
        from couchdal.testing.intercepting import InterceptionPlugin

        config.pluginmanager.register(InterceptionPlugin(config.getini("dal_intercept")), "dal-intercept")
    wanted = config.getoption("dal_coverage")
    if wanted:
        from couchdal.testing.coverage import CoveragePlugin, parse_formats

        config.pluginmanager.register(CoveragePlugin(config, parse_formats(wanted)), "dal-coverage")
    recorded = config.getoption("dal_record_requests")
    if recorded:
        from couchdal.testing.recording import RecordingPlugin

        config.pluginmanager.register(RecordingPlugin(config, recorded), "dal-recording")
    if config.getoption("dal_check") or config.getini("dal_check"):
        from couchdal.testing.check import CheckPlugin

        config.pluginmanager.register(CheckPlugin(config), "dal-check")
    config.pluginmanager.register(OutlivingThreads(), "dal-threads")
    config.stash[_ISOLATION] = Isolation(
        _prepare, databases if _chosen(config)[0] in (*_EMULATED, "both") else (), live
    )


def _add_choice(config: pytest.Config, chosen: str) -> None:
    """Let tests choose their backend, before any module under test creates its ``CouchDAL()``."""
    from couchdal.backends import register
    from couchdal.testing.both import BothBackends
    from couchdal.testing.choice import ChosenBackends

    choice = (BothBackends if chosen == "both" else ChosenBackends)(chosen, partial(_prepare_backends, config))
    config.add_cleanup(register("", choice.open_unnamed))
    config.pluginmanager.register(choice, "dal-choice")


def _prepare_backends(config: pytest.Config, named: set[str]) -> None:
    """Prepare the backends that tests choose by a mark."""
    isolation = config.stash[_ISOLATION]
    if "memory" in named:
        isolation.databases = databases_of(config)
    if "couch" in named and isolation.live is None:
        from couchdal.testing.mapping import start

        isolation.live = start(config, databases_of(config))


def _prepare(item: pytest.Item) -> None:
    """Inject the faults of a test, begin its interception, and load its seeds."""
    for mark in item.iter_markers("dal_faults"):
        from couchdal.middleware.faults import from_mark  # most tests have no faults

        if not mark.args:
            raise pytest.UsageError(f"{item.nodeid}: the mark dal_faults needs the name of a fault")
        try:
            fault = from_mark(None, mark.args[0], mark.args[1:], mark.kwargs)
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(f"{item.nodeid}: dal_faults: {error}") from None
        fault.__enter__()
        item.addfinalizer(partial(fault.__exit__, None, None, None))
    if item.get_closest_marker("dal_intercept"):
        from couchdal.testing.intercepting import begin_for  # most tests have no mark

        begin_for(item)
    if item.get_closest_marker("dal") or item.config.getini("dal_seed"):
        from couchdal.testing.seeds import plant  # most test runs have no seeds

        plant(item)


def _set_environment(config: pytest.Config, options: Mapping[str, object]) -> None:
    """Set the variables that handles read. Options override the environment, which overrides the project's settings."""
    values: dict[str, object] = {
        "DAL_BACKEND": options.get("dal_backend") or os.environ.get("DAL_BACKEND") or config.getini("dal_backend"),
        "DAL_INDEXES": options.get("dal_indexes") or os.environ.get("DAL_INDEXES") or config.getini("dal_indexes"),
        "COUCHDAL_COUCHDB_VERSION": options.get("dal_couchdb_version")
        or os.environ.get("COUCHDAL_COUCHDB_VERSION")
        or config.getini("dal_couchdb_version"),
        "DAL_ALLOWED_HOSTS": ",".join(
            [
                os.environ.get("DAL_ALLOWED_HOSTS", ""),
                *config.getini("dal_allowed_hosts"),
                *(options.get("dal_allow_host") or ()),  # type: ignore[misc]
            ]
        ).strip(","),
    }
    backend = values["DAL_BACKEND"]
    if backend not in ("", *_BACKENDS):
        raise pytest.UsageError(f"dal_backend must be one of {', '.join(_BACKENDS)}, not {backend!r}")
    check_version(values["COUCHDAL_COUCHDB_VERSION"])
    if backend == "sqlite":
        from couchdal.testing.data_file import use_file  # other runs need no SQLite

        use_file(config)
        # It is the emulator, and isolated alike.
        values["DAL_BACKEND"] = backend = "memory"
    if backend not in ("", "memory") or os.environ.get("COUCHDB_URL"):
        # All backends call the default database alike.
        values["COUCHDB_DATABASE"] = os.environ.get("COUCHDB_DATABASE") or "default"
        _add_choice(config, str(backend or "memory"))
    for name, value in values.items():
        if value:
            config.stash[_ENVIRONMENT].setdefault(name, os.environ.get(name))
            os.environ[name] = str(value)
    config.add_cleanup(lambda: _put_back(config.stash[_ENVIRONMENT]))


def _put_back(kept: dict[str, str | None]) -> None:
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _chosen(config: pytest.Config) -> tuple[str, str]:
    """Return the backend of the test run, and where it was chosen."""
    option = config.getoption("dal_backend")
    if option:
        return option, "--dal-backend"
    before = config.stash[_ENVIRONMENT].get("DAL_BACKEND") or ""
    if before:
        return before, "DAL_BACKEND"
    setting = config.getini("dal_backend")
    return (setting, "dal_backend in the project's settings") if setting else ("memory", "the default under pytest")


def pytest_report_header(config: pytest.Config) -> str:
    backend, why = _chosen(config)
    return f"couchdal: {backend} backend{'s' if backend == 'both' else ''} ({why})"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    try:
        with request.config.stash[_ISOLATION].setting_up(request.node):
            before = _interceptions()
            result = yield
            begun = [found for found in _interceptions() if found not in before]
            request.config.stash[_INTERCEPTED] += begun if request.scope != "function" else []
            return result
    finally:
        error = sys.exc_info()[1]
        if error is not None and fixturedef.cached_result is None:
            # A wrong mark or seed. pytest tears down only fixtures with a result; otherwise later tests would fail.
            fixturedef.cached_result = (None, None, (error, error.__traceback__))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seeded = items[:1] if config.getini("dal_seed") else []
    seeded += [item for item in items if item.get_closest_marker("dal")]
    if seeded:
        from couchdal.testing.seeds import check_seeds

        # One error before the first test, not one for each.
        for item in seeded:
            check_seeds(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[_INTERCEPTED] = _interceptions()
    if item.get_closest_marker("dal"):
        from couchdal.testing.marks import marked_backend, needs_emulator  # most tests have no mark

        if needs_emulator(item):
            item.user_properties.append(("dal_only", "for the emulator only"))
            if os.environ.get("DAL_BACKEND", "memory") != "memory":
                pytest.skip("for the emulator only: @pytest.mark.dal(emulator=True)")
        if marked_backend(item) == "couch" and os.environ.get("DAL_BACKEND") != "couch":
            pytest.skip("for a CouchDB only: @pytest.mark.dal(backend='couch'); set COUCHDB_URL")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[_ISOLATION].open(item)
    return (yield)


def _interceptions() -> list[object]:
    """Return the interceptions that are on. Test runs without any do not import the module."""
    origins = sys.modules.get("couchdal.http.origins")
    return [] if origins is None else origins.ANSWERED.values()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        if _interceptions():
            from couchdal.testing.intercepting import end_left_on  # most tests intercept nothing

            end_left_on(item.config.stash[_INTERCEPTED])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed:
        outcomes.show_databases(item, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _chosen(config)[0] == "both":
        outcomes.show_differences(terminalreporter)
