"""Write the generated parts of the documentation: tables from the API and the options, and ``llms.txt``.

    python tools/make_docs.py

A generated part lies between two comments in its page. ``tests/test_docs_pages.py`` checks that the parts are current.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from couchdal.api.parameters import PARAMETERS
from couchdal.api.routes import ROUTES, Route
from couchdal.api.versions import SWITCHES
from couchdal.emulator.engine.config.parsing import CORS, CORS_KEYS, JWT_KEYS, PLACES, REPLICATOR, REPLICATOR_KEYS
from couchdal.server.options import OPTIONS, Option

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

# The option that begins each group, and the group's heading.
GROUPS = {
    "backend": "The server",
    "cors-origins": "Browsers",
    "max-http-request-size": "Limits",
    "upstream": "CouchDB and authentication",
    "timeout": "Connections and failures",
    "allow": "The allow-list",
}


def generated() -> dict[Path, str]:
    """Return the whole text of each generated file by its path."""
    operating, compatibility = DOCS / "operating.md", DOCS / "compatibility.md"
    serving = DOCS / "serving.md"
    return {
        serving: fill(serving.read_text("utf-8"), "settings", settings_table()),
        operating: fill(operating.read_text("utf-8"), "options", option_tables()),
        compatibility: _compatibility(compatibility.read_text("utf-8")),
        DOCS / "llms.txt": summary(),
    }


def settings_table() -> str:
    """Return the table of the settings that the emulator obeys."""
    keys: dict[str, set[str]] = {JWT_KEYS: {"*"}, CORS: {*CORS_KEYS}, REPLICATOR: {*REPLICATOR_KEYS}}
    for section, key, _ in PLACES.values():
        keys.setdefault(section, set()).add(key)
    return table(
        ("section", "keys"), ((code([section]), code(sorted(names))) for section, names in sorted(keys.items()))
    )


def fill(page: str, part: str, content: str) -> str:
    """Return the page with the content in place of a part. Raise ``ValueError`` if the page lacks the part."""
    before, begin, rest = page.partition(f"<!-- {part} -->\n")
    _, end, after = rest.partition(f"<!-- end of {part} -->\n")
    if not (begin and end):
        raise ValueError(f"the page has no part {part!r}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(words: Iterable[str]) -> str:
    """Return the words as code, with commas in between."""
    return ", ".join(f"`{word}`" for word in words)


def option_tables() -> str:
    """Return a table of ``couchdal serve``'s options for each group."""
    groups: dict[str, list[Option]] = {}
    for option in OPTIONS:
        if option.name in GROUPS:
            rows = groups.setdefault(GROUPS[option.name], [])
        rows.append(option)
    head = ("Option and variable", "Default", "Meaning")
    return "\n".join(f"### {name}\n\n{table(head, map(option_row, rows))}" for name, rows in groups.items())


def option_row(option: Option) -> tuple[str, str, str]:
    """Return the cells of an option: its flag and variable, its default, and its text."""
    default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
    shown = "" if option.default in (None, (), False) else f"`{default}`"
    return f"`--{option.name}`<br>`{option.env}`", shown, option.purpose


def _compatibility(page: str) -> str:
    page = fill(page, "recorded differences", recorded_differences())
    page = fill(page, "versions", version_table())
    page = fill(page, "endpoints", endpoint_table())
    return fill(page, "unsupported endpoints", unsupported_table())


def recorded_differences() -> str:
    """Return a list of the recorded scenarios that the emulator answers differently."""
    known = tomllib.loads((ROOT / "tests/parity/known_differences.toml").read_text("utf-8"))
    lines = [f"- {code(entry['scenarios'])}: {entry['reason']}\n" for entry in known["difference"]]
    return "".join(lines) or "- none\n"


def version_table() -> str:
    """Return a table of what differs between versions of CouchDB."""
    rows = ((switch.since, switch.summary, switch.proof) for switch in SWITCHES)
    return table(("Since", "Behaviour", "Proof"), rows)


def endpoint_table() -> str:
    """Return a table of the endpoints that the emulator answers."""
    first: dict[tuple[str, ...], str] = {}
    rows = []
    for route in ROUTES:
        if is_answered(route):
            names = PARAMETERS.get(route.pattern, ())
            same = first.setdefault(names, route.pattern)
            cell = parameters(names, "" if same == route.pattern else same, first)
            rows.append((f"{path(route.pattern)}<br>{' '.join(route.methods) or 'any method'}", cell))
    return table(("Endpoint and methods", "Parameters"), rows)


def is_answered(route: Route) -> bool:
    """Whether an endpoint does something. Of those that take any method, only show and update functions do."""
    if route.is_listed:
        return True
    return route.pattern.rpartition("/")[2] == "{function}" and "_list" not in route.pattern


def path(pattern: str) -> str:
    """Return an endpoint's pattern as code that a line may break behind its slashes."""
    return f"<code>/{pattern[1:].replace('/', '/<wbr>')}</code>"


def parameters(names: tuple[str, ...], same: str, first: Mapping[tuple[str, ...], str]) -> str:
    """Return an endpoint's parameters. Long lists that an earlier endpoint has too are named after that one."""
    if same and len(names) > 3:
        return f"as {path(same)}"
    if names[1:] in first and len(names) > 3:
        return f"{code(names[:1])}, then as {path(first[names[1:]])}"
    return code(names)


def unsupported_table() -> str:
    """Return a table of the endpoints that the emulator answers with 501, by reason."""
    by_reason: dict[str, list[str]] = {}
    for route in ROUTES:
        if route.unsupported:
            patterns = by_reason.setdefault(route.unsupported, [])
            if route.pattern.removesuffix("/{rest...}") not in patterns:
                patterns.append(route.pattern)
    rows = [(reason, "<br>".join(map(path, patterns))) for reason, patterns in by_reason.items()]
    return table(("Reason of the 501", "Endpoints, with the paths below them"), rows)


def summary() -> str:
    """Return ``llms.txt``: the pages of the documentation, and the first paragraph of each."""
    navigation = yaml.safe_load(re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text("utf-8")))["nav"]
    title, about = title_and_purpose("index.md")
    lines = [f"# {title}\n", f"> {about}\n"]
    for group in navigation[1:]:
        [(heading, pages)] = group.items()
        lines.append(f"## {heading}\n")
        lines.append(
            "".join(f"- [{title_and_purpose(page)[0]}]({page}): {title_and_purpose(page)[1]}\n" for page in pages)
        )
    return "\n".join(lines)


def title_and_purpose(page: str) -> tuple[str, str]:
    """Return the title of a page and its first paragraph. Raise ``ValueError`` if the page begins otherwise."""
    title, _, rest = (DOCS / page).read_text("utf-8").partition("\n\n")
    if not re.fullmatch(r"# .+", title):
        raise ValueError(f"{page} must begin with a title, such as `# Views`, and an empty line")
    purpose = " ".join(rest.partition("\n\n")[0].split())
    if not purpose.endswith("."):
        raise ValueError(f"the first paragraph of {page} must end in a full stop, not in {purpose[-20:]!r}")
    return title[2:], purpose


def main() -> None:
    for path, text in generated().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
