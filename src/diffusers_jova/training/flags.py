# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Fields of a frozen dataclass as flags and as keys of a YAML file, with one spelling; `config` has the fields."""

import argparse
import os
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, asdict, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from ..files import whole_file
from ..text import nearest


if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

NAMES_OF_TYPES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    dict: "a mapping",
}


def setting(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    """Return a dataclass field with what its flag says in `--help` and which values it allows."""
    return field(default=default, metadata={"help": help, "choices": choices})


# --- values ---


def convert_settings(config: Any) -> None:
    """Give each field of a frozen dataclass its value as the type of the field. For `__post_init__`.

    Raises:
        ValueError: If a value has another type, or is not one of the choices.
    """
    hints = typing.get_type_hints(type(config))
    for item in fields(config):
        object.__setattr__(config, item.name, convert(item, getattr(config, item.name), hints[item.name]))


def convert(item: Field, value: Any, hint: Any) -> Any:
    """Return `value`, from YAML or from Python, as the type of its field; see `convert_settings`."""
    kind, is_optional = kind_of(hint)
    if value is None and is_optional:
        return None
    if kind is float and isinstance(value, str):  # YAML reads 1e-4, without a point, as text
        try:
            value = float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"`{item.name}` must be {NAMES_OF_TYPES[kind]}, got {value!r}.")
    choices = item.metadata["choices"]
    if choices is not None and value not in choices:
        allowed = ", ".join(choices)
        raise ValueError(f"`{item.name}` must be one of {allowed}, got {value!r}{nearest(str(value), choices)}")
    return value


def kind_of(hint: Any) -> tuple[type, bool]:
    """Return the type of a field, and whether None is allowed beside it."""
    if not isinstance(hint, types.UnionType):
        return hint, False
    return next(kind for kind in typing.get_args(hint) if kind is not types.NoneType), True


# --- YAML ---


def read_yaml(path: str | os.PathLike, cls: type) -> dict[str, Any]:
    """Return the settings in a YAML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a YAML mapping, or has a key that `cls` does not know; the message names the nearest.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no settings file `{path}`.")
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` is not a YAML file in UTF-8: {error}") from error
    settings = {} if settings is None else settings
    if not isinstance(settings, dict):
        raise ValueError(f"`{path}` must hold keys and values, got a {type(settings).__name__}.")
    known = [item.name for item in fields(cls)]
    for key in settings:
        if key not in known:
            raise ValueError(f"`{path}` has the unknown key `{key}`{nearest(key, known)}")
    return settings


def to_dict(config: Any) -> dict[str, Any]:
    """Return the settings as YAML and JSON can hold them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def write_yaml(config: Any, path: str | os.PathLike) -> None:
    """Write the settings so that `--config` reads them back."""
    with whole_file(path, "") as partial:
        partial.write_text(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


# --- flags ---


def add_flags(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add `--config` and a flag for each field of `cls`."""
    parser.add_argument("--config", metavar="YAML", help="settings; flags go before them")
    hints = typing.get_type_hints(cls)
    for item in fields(cls):
        add_flag(parser, item, hints[item.name])


def config_from(args: argparse.Namespace, cls: type[Config]) -> Config:
    """Return the settings that the flags of `add_flags` (first) and the YAML file of `--config` (second) give.

    Raises:
        ValueError, FileNotFoundError: See `read_yaml` and `convert_settings`; or if a setting without a default is
            missing.
    """
    settings = vars(args).copy()
    path = settings.pop("config")
    settings = {**(read_yaml(path, cls) if path else {}), **settings}
    missing = [item.name for item in fields(cls) if item.default is MISSING and settings.get(item.name) is None]
    if missing:
        raise ValueError(f"`{missing[0]}` is missing, give it as --{missing[0]} or in the YAML file.")
    return cls(**settings)


def add_flag(parser: argparse.ArgumentParser, item: Field, hint: Any) -> None:
    """Add the flag of one field. A flag that is not given leaves no trace, so that the YAML file decides."""
    kind, is_optional = kind_of(hint)
    choices = item.metadata["choices"]
    default = "" if item.default in (MISSING, None, ()) else f" (default: {item.default})"
    text = f"{item.metadata['help']}{default}".replace("%", "%%")
    options: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif kind is tuple:
        options["nargs"] = "+"
    elif kind is dict:
        options |= {"nargs": "+", "type": pair, "action": Mapping, "metavar": "NAME=NUMBER"}
    else:
        options |= {"type": or_none(kind) if is_optional else kind, "choices": choices}
        if not choices:
            options["metavar"] = kind.__name__.upper()
    parser.add_argument(f"--{item.name}", **options)


def pair(text: str) -> tuple[str, float]:
    """Return "name=0.5" as name and number."""
    name, _, number = text.partition("=")
    return name, float(number)


pair.__name__ = "name=number"  # argparse names it in its errors


class Mapping(argparse.Action):
    """Keeps pairs as a mapping."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        names = [name for name, _ in values]
        if len(set(names)) < len(names):
            parser.error(f"argument {option_string}: a name stands twice in {', '.join(names)}")
        setattr(namespace, self.dest, dict(values))


def or_none(kind: type) -> Callable[[str], Any]:
    """Return a parser of `kind` that reads "none" as None."""

    def parse(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    parse.__name__ = kind.__name__  # argparse names it in its errors
    return parse
