# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Write the pages of the site that follow from the source: verbs and flags, settings, modules, error messages.

python tools/reference_pages.py

`make docs` runs it; git does not keep the pages, so that they cannot differ from what they describe.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import groupby
from pathlib import Path

from diffusers_jova.cli.dispatch import DESCRIPTION, EPILOG, GROUPS, PROGRAM, make_parser
from diffusers_jova.command import run
from diffusers_jova.files import whole_file
from diffusers_jova.text import markdown
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig


REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "diffusers_jova"
FOLDER = REPOSITORY / "docs" / "reference"
TREE = "https://github.com/diffusers-jova/diffusers-jova/blob/main"
PACKAGE = "the package itself"  # the modules that stand in no room
SUPPRESSED = argparse.SUPPRESS


# --- verbs and flags ---


def command_line() -> str:
    """Return the page of all verbs, as `--help` explains them."""
    both_names, status = EPILOG.strip().split("\n\n")
    parts = ["# Command line", DESCRIPTION, both_names, f"```text\n{status}\n```"]
    for group, verbs in GROUPS.items():
        parts.append(f"## To {group}")
        for verb in verbs:
            parser = make_parser(verb, f"{PROGRAM} {verb}")
            parts += [f"### {verb}", *_description(parser), *_flags(parser)]
    return "\n\n".join(parts) + "\n"


def _description(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the paragraphs of a verb's docstring; what is indented, or begins with the program's name, is commands."""
    for paragraph in (parser.description or "").strip().split("\n\n"):
        if paragraph.startswith((" ", PROGRAM)):
            lines = [line.removeprefix("    ") for line in paragraph.split("\n")]
            yield "\n".join(["```text", *lines, "```"])
        else:
            yield " ".join(markdown(line) for line in paragraph.split("\n"))


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a table for each group of a verb's flags."""
    for group in parser._action_groups:
        actions = [
            action for action in group._group_actions if action.help is not SUPPRESSED and action.dest != "help"
        ]
        if actions:
            if group.title not in ("options", "positional arguments"):
                yield f"**{markdown(group.title[0].upper() + group.title[1:])}**"
            rows = ["| flag | values | |", "|---|---|---|"]
            rows += [f"| {_names(action)} | {_values(action)} | {_help(action)} |" for action in actions]
            yield "\n".join(rows)


def _names(action: argparse.Action) -> str:
    return ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"


def _values(action: argparse.Action) -> str:
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return ""
    if action.choices is not None:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    metavar = action.metavar or action.dest.upper()
    return markdown(" ".join(metavar) if isinstance(metavar, tuple) else metavar)


def _help(action: argparse.Action) -> str:
    needed = " Needed." if action.required else ""
    text = (action.help or "") % {"default": action.default} if "%(" in (action.help or "") else action.help or ""
    return markdown(text.replace("%%", "%") + needed)


# --- settings ---


def settings() -> str:
    """Return the page of all keys that a training's YAML file may have."""
    of_all = {item.name for item in fields(TrainingConfig)}
    lora = [item for item in fields(LoraTrainingConfig) if item.name not in of_all]
    parts = [
        "# Settings of a training",
        "Each is a key of the YAML file that `--config` takes, and a flag of the same name, which goes before the "
        "file. Files that come with the package: [training/configs]"
        f"({TREE.replace('blob', 'tree')}/training/configs). What the settings do: [Train](../train.md).",
        "## Of `train` and `train-lora`",
        _settings_table(fields(TrainingConfig)),
        "## Of `train-lora` alone",
        _settings_table(lora),
    ]
    return "\n\n".join(parts) + "\n"


def _settings_table(items) -> str:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for item in items:
        kind = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))
        default = "needed" if item.default is MISSING else "" if item.default is None else f"`{item.default}`"
        choices = item.metadata["choices"]
        help = item.metadata["help"] + (f"; one of {', '.join(choices)}" if choices else "")
        rows.append(f"| `{item.name}` | {markdown(kind)} | {default} | {markdown(help)} |")
    return "\n".join(rows)


# --- modules ---


def rooms() -> dict[str, list[str]]:
    """Return the modules of each room of the package, without those of the command line."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        room = parts[0] if len(parts) > 1 else PACKAGE
        if room != "cli" and not parts[-1].startswith("__"):
            found.setdefault(room, []).append(".".join(["diffusers_jova", *parts]))
    return found


def modules(room: str) -> str:
    """Return the page of one room: the public classes and functions of its modules, from their docstrings."""
    title = "Modules of the package itself" if room == PACKAGE else f"Modules of `{room}`"
    parts = [f"# {title}", *(f"::: {name}" for name in rooms()[room])]
    return "\n\n".join(parts) + "\n"


# --- error messages ---


@dataclass(frozen=True)
class Message:
    """An error that a line of the source can end with.

    Attributes:
        path: of the source, from the repository's root.
        line: where the error is made.
        kind: its class.
        text: what it says; "…" stands for what is only known when it happens.
    """

    path: str
    line: int
    kind: str
    text: str


def messages() -> list[Message]:
    """Return all errors with a text of their own, in the order of the source."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    constants = {name: text for tree in trees.values() for name, text in _constants(tree)}
    found = []
    for path, tree in trees.items():
        here = constants | dict(_constants(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and (kind := _error_kind(node.func)):
                text = " ".join(_text(node.args[0], here).split())
                if any(map(str.isalpha, text)):  # otherwise it passes on what another error says
                    found.append(Message(path.relative_to(REPOSITORY).as_posix(), node.lineno, kind, text))
    return sorted(found, key=lambda message: (message.path, message.line))


def _error_kind(function: ast.expr) -> str | None:
    """Return the class of an error where a call makes one: `ValueError(...)`, or `parser.error(...)`."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name == "error" and getattr(getattr(function, "value", None), "id", "") == "parser":
        return "error"
    return name if name.endswith(("Error", "Exception")) and name[0].isupper() else None


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of a module that are texts."""
    known: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            if any(map(str.isalpha, text := _text(node.value, known))):
                known[node.targets[0].id] = text
    yield from known.items()


def _text(node: ast.expr, constants: dict[str, str]) -> str:
    """Return an expression as text, "…" where it is not one."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, constants) for value in values)
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name):
            return constants.get(name, "…")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(text for text in (_text(body, constants), _text(orelse, constants)) if text)
        case _:
            return "…"


def errors() -> str:
    """Return the page of all error messages."""
    parts = [
        "# Error messages",
        "All errors that the package words itself, by the file that they come from: search this site for the fixed "
        "words of a message. `…` stands for what is only known when it happens. A program prints them in one line and "
        "ends with status 2; `DIFFUSERS_JOVA_DEBUG=1` shows the traceback. What helps, by symptom: "
        "[Troubleshooting](../howto/troubleshooting.md).",
    ]
    for path, group in groupby(messages(), key=lambda message: message.path):
        parts.append(f"## {markdown(path.removeprefix('src/diffusers_jova/'))}")
        parts += [f"- [{item.kind}]({TREE}/{path}#L{item.line}): {markdown(item.text)}" for item in group]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """Return all pages by their names below docs/reference."""
    return {"command_line.md": command_line(), "settings.md": settings(), "errors.md": errors()} | {
        f"modules_{'package' if room == PACKAGE else room}.md": modules(room) for room in rooms()
    }


def main(_: argparse.Namespace) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        with whole_file(FOLDER / name, "") as path:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run(main, argparse.ArgumentParser(description=__doc__).parse_args()))
