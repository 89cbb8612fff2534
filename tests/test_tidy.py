"""Style that fails the build: which way imports point, how long things are, and what they are called."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
MODULES = {
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        file.read_text("utf-8")
    )
    for file in sorted(SOURCE.rglob("*.py"))
}


def each_module(check: Callable[[str], None]) -> Callable[[], None]:
    """Make a check of one module a test of all. With a test for each, counting them takes longer than the checks."""

    def test() -> None:
        for module in MODULES:
            try:
                check(module)
            except AssertionError as error:
                error.add_note(f"in {module}")
                raise

    test.__doc__ = check.__doc__
    return test


# From the bottom up: a module imports from its own layer and from those below.
LAYERS = (
    ("couchdal.failure", "couchdal.errors", "couchdal.pace"),
    ("couchdal.http", "couchdal.config"),
    ("couchdal.api",),
    ("couchdal.emulator.storage",),
    ("couchdal.emulator.engine",),
    ("couchdal.emulator.http", "couchdal.emulator.endpoints"),
    ("couchdal.emulator",),
    ("couchdal.backends",),
    ("couchdal.transcripts.normal_form", "couchdal.transcripts.scenario"),
    ("couchdal.types", "couchdal.operations"),
    ("couchdal.middleware",),
    ("couchdal.coverage", "couchdal.metrics"),
    ("couchdal.base_client",),
    ("couchdal.proxy",),
    ("couchdal.client", "couchdal.async_client", "couchdal.transcripts", "couchdal.data_files"),
    ("couchdal.server",),
    ("couchdal.interception",),
    ("couchdal.testing",),
    ("couchdal", "couchdal.cli", "couchdal.pytest_plugin"),
    ("dal",),
)
# Packages that reach outside this process or are slow to import, and their only importers.
ONLY_IMPORTERS = {
    "httpx2": {"couchdal.backends.couch_server", "couchdal.backends.couch", "couchdal.backends.async_couch"},
    "h11": {"couchdal.interception.server_side"},
    "requests": {"couchdal.interception.requests_client"},
    "urllib3": {"couchdal.interception.requests_client"},
    "httpx": {"couchdal.interception.httpx_client"},
    "aiohttp": {"couchdal.interception.aiohttp_client"},
    "uvicorn": {"couchdal.server.listener", "couchdal.server.protocol"},
    "starlette": set(),
    "quickjs": {"couchdal.emulator.engine.javascript.runtime"},
    "subprocess": {"couchdal.server.javascript_workers"},
    "prometheus_client": {"couchdal.metrics.prometheus"},
    "opentelemetry": {"couchdal.metrics.opentelemetry"},
    "sqlite3": {"couchdal.emulator.storage.sqlite", "couchdal.emulator.storage.sqlite_connection"},
    "random": {"couchdal.proxy.retries", "couchdal.operations.attempts"},
    "secrets": {"couchdal.server.assembly"},
}
# The docstrings of these modules say why they defer imports.
DEFERRING = {
    "couchdal",
    "couchdal.backends",
    "couchdal.cli",
    "couchdal.pytest_plugin",
    "couchdal.testing.coverage",
    "couchdal.testing.fixtures",
}
# The groups that the docstring of ``couchdal.emulator.engine`` lists.
MEASURED = re.compile(
    r"(couchdal\.emulator\.engine\.(documents\.attachment|mango|views|collation|javascript|auth\.(users|sessions))|"
    r"sortedcontainers|quickjs|regex)(\.|\Z)"
)
EDGES = {
    "couchdal.server.application",
    "couchdal.interception.answers",
    "couchdal.backends.served",
    "couchdal.backends.memory",
    "couchdal.cli",
}
BANNED_WORDS = re.compile(
    r"manager|handler|helper|mixin|(?<![a-z])utils?(?![a-z])|(?<![a-z])common(?![a-z])", re.IGNORECASE
)


def layer_of(module: str) -> int:
    layers = [
        n
        for n, names in enumerate(LAYERS)
        for name in names
        if module == name or (name != "couchdal" and module.startswith(name + "."))
    ]
    assert layers, f"{module} has no layer: give it one in LAYERS"
    return layers[0]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield all imported modules, also those in functions and under ``TYPE_CHECKING``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES
            )


IMPORTS = {module: frozenset(imports_of(tree)) for module, tree in MODULES.items()}


@each_module
def test_imports_point_downwards(module: str) -> None:
    wrong = [name for name in IMPORTS[module] if name in MODULES and layer_of(name) > layer_of(module)]
    assert not wrong


@each_module
def test_imports_go_in_no_circle(module: str) -> None:
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        for name in IMPORTS[waiting.pop()]:
            # The package itself imports its public names on first use.
            if name in MODULES and name not in reached and name != "couchdal":
                reached.add(name)
                waiting.append(name)
    assert module not in reached


@each_module
def test_only_the_engine_uses_the_storage(module: str) -> None:
    if not module.startswith(("couchdal.emulator.engine.", "couchdal.emulator.storage.")):
        used = [
            node for node in ast.walk(MODULES[module]) if isinstance(node, ast.Attribute) and node.attr == "storage"
        ]
        assert not used, "call a method of the engine instead"


@each_module
def test_outside_packages_have_one_importer(module: str) -> None:
    for name in IMPORTS[module]:
        package = name.partition(".")[0]
        assert module in ONLY_IMPORTERS.get(package, {module}), f"{package} is not for {module}"


@each_module
def test_modules_and_functions_stay_short(module: str) -> None:
    tree = MODULES[module]
    assert max((getattr(node, "end_lineno", 0) or 0 for node in ast.walk(tree)), default=0) <= 350
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 70, node.name


@each_module
def test_long_lists_of_arguments_have_names(module: str) -> None:
    for node in ast.walk(MODULES[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            assert len([name for name in names if name not in ("self", "cls")]) <= 5, f"{node.name}: use keywords"


@each_module
def test_deferred_import_has_a_reason(module: str) -> None:
    """A comment beside it, a group that the engine's docstring lists with its cost, or the module's docstring."""
    if module in DEFERRING:
        return
    file = SOURCE / module.replace(".", "/")
    lines = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text("utf-8").splitlines()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    inside = [node for top in ast.walk(MODULES[module]) if isinstance(top, functions) for node in ast.walk(top)]
    for node in inside:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            first = node.lineno - 1
            while lines[first - 1].strip().startswith(("from ", "import ")) or not lines[first - 1]:
                first -= 1
            beside = "\n".join(lines[first - 1 : node.end_lineno])
            named = [*(alias.name for alias in node.names), getattr(node, "module", None) or ""]
            assert "#" in beside or any(MEASURED.match(name) for name in named), f"line {node.lineno}"


@each_module
def test_names_say_what_things_are(module: str) -> None:
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [module, *(node.name for node in ast.walk(MODULES[module]) if isinstance(node, named))]
    assert not [name for name in names if BANNED_WORDS.search(name)]


@each_module
def test_everything_is_caught_only_at_the_edge(module: str) -> None:
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ExceptHandler) and module not in EDGES:
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "Exception", "BaseException"), f"line {node.lineno}"


@each_module
def test_docstring_says_what_the_module_is_for(module: str) -> None:
    assert ast.get_docstring(MODULES[module])
