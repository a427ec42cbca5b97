"""Builds the documentation into site/: hand-written pages from here, generated ones from the installed package.

``make docs`` runs it. Warnings are errors. What is generated is never edited by hand: the protocol and counter pages
come from the tables that the Rust core declares, the configuration page from the models that check the file, the
command line's from its own help, the Python page from docstrings.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sphinx.cmd.build import build_main

import barewire
from barewire import _core
from barewire._config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGES = ROOT / "target" / "docs"
SITE = ROOT / "site"
GENERATED = "*Generated from the installed package: {source}.*\n"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines: list[Iterable[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def field_rows(fields: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    """Rows of a field table of the core."""
    kinds = {
        "uint_be": "unsigned, big-endian",
        "uint_le": "unsigned, little-endian",
        "int_le": "signed, little-endian",
        "text": "text",
        "bytes": "bytes",
    }
    for field in fields:
        yield field["offset"], field["len"], f"`{field['name']}`", kinds[field["kind"]], field["unit"], field["doc"]


FIELD_HEAD = ("offset", "bytes", "field", "type", "unit", "meaning")


def protocol_page(name: str, protocol: dict[str, Any]) -> str:
    """A protocol's messages, fields and codes."""
    out = [f"# {protocol['title']}\n", GENERATED.format(source=f"`barewire.protocols()[{name!r}]`")]
    out.append(f"Source: {protocol['source']}\n")
    if protocol["messages"]:
        out.append(f"Its name in commands and configuration is `{name}`.\n")
    for title, structure in protocol.get("structures", {}).items():
        out += [f"## {title}\n", f"{structure['len']} bytes.\n", table(FIELD_HEAD, field_rows(structure["fields"]))]
    messages = protocol["messages"]
    if messages:
        listed = [(f"`{kind}`", f"`{message['name']}`", message["len"]) for kind, message in messages.items()]
        out += ["## Messages\n", table(("type", "message", "bytes"), listed)]
    codes: dict[str, dict[str, str]] = {}
    for kind, message in messages.items():
        out += [f"### `{kind}` {message['name']}\n", f"{message['len']} bytes.\n"]
        out.append(table(FIELD_HEAD, field_rows(message["fields"])))
        codes |= {field["name"]: field["codes"] for field in message["fields"] if field["codes"]}
    if codes:
        out.append("## Codes\n")
        out.append("What the specification's edition knows. Other codes decode all the same.\n")
    for field, meanings in sorted(codes.items()):
        rows = [(f"`{code}`" if code.strip() else "blank", meaning) for code, meaning in meanings.items()]
        out += [f"### {field}\n", table(("code", "meaning"), rows)]
    return "\n".join(out)


def records_section() -> str:
    """The four record kinds."""
    out = []
    for kind, fields in _core.record_layouts().items():
        out += [f"### {kind}\n", table(FIELD_HEAD, field_rows(fields))]
    return "\n".join(out)


def counters_page() -> str:
    """Every statistic."""
    return "\n".join(
        [
            "# Counters\n",
            GENERATED.format(source="`barewire.counters()`"),
            "Every packet and every message ends in exactly one counter, and the counters sum up:\n",
            "- `packets` is the sum of the counters from `packets_delivered` to `packets_refused`;\n"
            "- `messages` is the sum of the counters from `messages_duplicate` to `book_out_of_capacity`.\n",
            "A counter is never renamed. `feed.stats`, `replay.stats` and `ring.stats` give them all.\n",
            table(("counter", "counts"), ((f"`{name}`", meaning) for name, meaning in _core.counters())),
        ]
    )


def configuration_page() -> str:
    """Every key of the configuration file."""
    schema = Config.model_json_schema()
    out = [
        "# Configuration\n",
        GENERATED.format(source="the models that check the file"),
        "A feed is described by one TOML file. `barewire run --example-config` prints one to start from. A wrong "
        "value is answered with its key, what stood there, and what may stand there.\n",
    ]
    for key, whole in schema["properties"].items():
        out += configuration_table(schema["$defs"], key, whole)
    return "\n".join(out)


def configuration_table(models: dict[str, Any], key: str, whole: dict[str, Any]) -> list[str]:
    """One table of the configuration, and the tables in it."""
    model = model_of(models, whole)
    title = f"[[{key}]]" if whole.get("type") == "array" else f"[{key}]"
    rows, inner = [], []
    for name, field in model["properties"].items():
        if model_of(models, field):
            inner += configuration_table(models, f"{key}.{name}", field)
            continue
        default = "**required**" if name in model.get("required", []) else toml(name, field.get("default"))
        rows.append((f"`{name}`", default, field.get("description", "")))
    text = " ".join(model.get("description", "").split())
    if not rows:
        return inner
    return [f"## `{title}`\n", f"{text}\n", table(("key", "default", "what may stand there"), rows), *inner]


def model_of(models: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The table that a key's value is, one that may be left out or one of several; empty where it is none."""
    for place in (whole, whole.get("items", {}), *whole.get("allOf", ()), *whole.get("anyOf", ())):
        if "$ref" in place:
            found: dict[str, Any] = models[place["$ref"].rsplit("/", 1)[1]]
            return found
    return {}


def toml(name: str, value: object) -> str:
    """A default as the file would have it."""
    if value is None:
        return "left out"
    if isinstance(value, bool):
        text = str(value).lower()
    elif name == "mode" and isinstance(value, int):
        text = oct(value)  # file permissions
    else:
        text = json.dumps(value)
    return f"`{text}`"


def cli_page() -> str:
    """The help of every command."""
    program = Path(sys.executable).with_name("barewire")
    plain = os.environ | {"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}

    def usage(*command: str) -> str:
        done = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=True, env=plain)
        return "```text\n" + "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()) + "\n```\n"

    out = ["# Command line\n", GENERATED.format(source="`barewire --help`"), usage()]
    for name, nested in commands():
        out += [f"## barewire {name}\n", usage(name)]
        for inner in nested:
            out += [f"### barewire {name} {inner}\n", usage(name, inner)]
    return "\n".join(out)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command with its subcommands."""
    import typer.main

    from barewire._cli.app import app

    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if not command.hidden:
            yield name, list(getattr(command, "commands", {}))


def docstring(thing: object) -> str:
    """A docstring as Markdown: its sections become lists, its indented blocks are code already."""
    text = inspect.getdoc(thing) or ""
    out: list[str] = []
    in_section = False
    for line in text.splitlines():
        if re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", line):
            in_section = True
            out += ["", f"**{line}**", ""]
        elif in_section and (entry := re.match(r"    (\S[^:]*): (.*)", line)) and not line.startswith("     "):
            names = ", ".join(f"`{name.strip()}`" for name in entry[1].split(","))
            out.append(f"- {names}: {entry[2]}")
        elif in_section and line.startswith("    "):
            out.append("  " + line.strip())
        elif line.startswith("    ") and (not out or not out[-1].strip() or out[-1].startswith("    ")):
            out.append(line)
        else:
            in_section = in_section and not line.strip()
            out.append(line)
    return "\n".join(out) + "\n"


def signature(thing: Any, name: str) -> str:
    """A call as a reader would write it, annotations without their modules."""
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return name
    text = re.sub(r"'([^']*)'", r"\1", text) if "'" in text and "->" in text else text
    text = text.replace("(self, /, ", "(").replace("(self, ", "(").replace("(self)", "()").replace("(cls, ", "(")
    return name + text


def members(kind: type) -> Iterator[tuple[str, str, Any]]:
    """Public methods and properties that a class documents itself: heading, signature, object."""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield name, "", member
        elif isinstance(member, classmethod | staticmethod):
            yield name, signature(member.__func__, f"{kind.__name__}.{name}"), member.__func__
        elif inspect.isfunction(member):
            yield name, signature(member, name), member


def api_page() -> str:
    """Everything that `import barewire` offers."""
    out = ["# Python reference\n", GENERATED.format(source="docstrings"), docstring(barewire)]
    constants = []
    for name in barewire.__all__:
        thing = getattr(barewire, name)
        if name.startswith("_") or not (inspect.isclass(thing) or callable(thing)):
            constants.append((name, thing))
            continue
        out.append(f"## {name}\n")
        is_exception = inspect.isclass(thing) and issubclass(thing, Exception)
        if not is_exception:
            out.append(f"```text\n{signature(thing, name)}\n```\n")
        out.append(docstring(thing))
        if inspect.isclass(thing) and not is_exception and not issubclass(thing, tuple):
            for member, call, function in members(thing):
                if inspect.getdoc(function):
                    out.append(f"### {name}.{member}\n")
                    out += [f"```text\n{call}\n```\n"] if call else []
                    out.append(docstring(function))
    shown = [(f"`{name}`", constant(value)) for name, value in constants]
    out += ["## Constants\n", table(("name", "value"), shown)]
    return "\n".join(out)


def constant(value: object) -> str:
    """What a constant is, on one line."""
    if hasattr(value, "fields"):
        return "a numpy dtype"
    text = re.sub(r"barewire\.\w+\.", "", str(value))
    return f"`{text}`" if len(text) < 100 else f"a text of {text.count(chr(10))} lines"


def main() -> int:
    """Gathers, generates, builds; the exit status."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(HERE, PAGES, ignore=shutil.ignore_patterns("__pycache__", "build.py"))
    (PAGES / "protocols").mkdir()
    (PAGES / "changelog.md").write_text((ROOT / "CHANGELOG.md").read_text())
    event = PAGES / "event.md"
    event.write_text(event.read_text().replace("<!-- records -->", records_section()))
    names = []
    for name, protocol in _core.protocols().items():
        (PAGES / "protocols" / f"{name}.md").write_text(protocol_page(name, protocol))
        names.append(name)
    index = ["# Protocols\n", "```{toctree}\n" + "\n".join(names) + "\n```\n"]
    (PAGES / "protocols" / "index.md").write_text("\n".join(index))
    generated = {
        "counters.md": counters_page,
        "configuration.md": configuration_page,
        "cli.md": cli_page,
        "api.md": api_page,
    }
    for page, make in generated.items():
        (PAGES / page).write_text(make())
    shutil.rmtree(SITE, ignore_errors=True)
    status: int = build_main(["-q", "-W", "--keep-going", "-n", "-b", "html", str(PAGES), str(SITE)])
    if status == 0:
        print(f"docs: {len(list(SITE.rglob('*.html')))} pages, {SITE.relative_to(ROOT)}/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
