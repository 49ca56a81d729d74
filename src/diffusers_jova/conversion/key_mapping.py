# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Key maps: which tensors of a checkpoint become which, and how; the one way from names read to names written.

A key map is a tuple of rules, written here or in a YAML file (docs/conversion.md shows how), where each has one of the
verbs below. Names are patterns: `<i>` stands for one component of a dotted name, `<rest*>` for one or more. The first
rule that matches a name is the one that applies, and the inverse of a map is that of the inverse rules, in the same
order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .errors import ConversionError
from .streaming import Write


BUILT_IN = Path(__file__).parent / "key_maps"  # FILE.yaml there can be named in `extends`
# verb -> the entries that a rule must have beside it, and those that it may have
VERBS: dict[str, tuple[set[str], set[str]]] = {
    "rename": ({"to"}, set()),
    "split": ({"to"}, set()),
    "fuse": ({"to"}, set()),
    "swap": ({"to"}, {"order"}),
    "transpose": ({"to"}, set()),
    "drop": (set(), set()),
}
BOUND = {"branch", "head"}  # placeholders that `KeyMap.bind` replaces, so that one table serves both branches
PLACEHOLDER = re.compile(r"<(\w+)(\*?)>")


def placeholders(pattern: str) -> set[str]:
    """Return the placeholders of a pattern that stand for a part of a tensor's name."""
    return {name for name, _ in PLACEHOLDER.findall(pattern)} - BOUND


def compile_pattern(pattern: str) -> re.Pattern:
    """Return the regular expression of a name pattern, one named group per placeholder."""
    expression, end, seen = "", 0, set()
    for found in PLACEHOLDER.finditer(pattern):
        name, star = found.groups()
        expression += re.escape(pattern[end : found.start()])
        expression += f"(?P={name})" if name in seen else f"(?P<{name}>{'.+' if star else '[^.]+'})"
        seen.add(name)
        end = found.end()
    return re.compile(expression + re.escape(pattern[end:]))


def fill(pattern: str, values: Mapping[str, str]) -> str:
    """Return `pattern` with its placeholders replaced; those without a value stay."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), pattern)


@dataclass(frozen=True)
class Rule:
    """One line of a key map: tensors that match `sources` become `targets`.

    Every verb is one case of: join the sources along axis 0, transpose, reorder equal chunks of axis 0, cut into the
    targets. A rule without targets drops what it matches.

    Args:
        sources, targets: name patterns with the same placeholders.
        order: chunk `k` of the result is chunk `order[k]` of the source.
        transpose: exchange axes 0 and 1.
        function: makes the one target of all sources, instead. There is no way back then.
        line: where the rule stands, for messages.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    order: tuple[int, ...] | None = None
    transpose: bool = False
    function: Callable[..., Tensor] | None = None
    line: str = ""

    @property
    def inverse(self) -> Rule:
        if self.function is not None:
            raise ConversionError(f"{self.line or self.sources[0]} has no inverse: it changes the numbers.")
        order = self.order and tuple(self.order.index(k) for k in range(len(self.order)))
        return replace(self, sources=self.targets, targets=self.sources, order=order)

    @property
    def how(self) -> str:
        """What it does, in the word that a report has for it."""
        if self.function is not None:
            return "computed"
        moved = self.order or self.transpose or len(self.sources) > 1 or len(self.targets) > 1
        return "reordered" if moved else "copied"

    def bind(self, values: Mapping[str, str]) -> Rule:
        """Return the rule with some placeholders, such as `<branch>`, replaced on both sides."""
        sources, targets = (tuple(fill(name, values) for name in names) for names in (self.sources, self.targets))
        return replace(self, sources=sources, targets=targets)

    def make(self, part: int, *tensors: Tensor) -> Tensor:
        """Return the tensor of `targets[part]`, given those of `sources`; works on the meta device too.

        Raises:
            ConversionError: For sources of several dtypes, or an axis that cannot be cut evenly.
        """
        if self.function is not None:
            return self.function(*tensors)
        dtypes = {tensor.dtype for tensor in tensors}
        if len(dtypes) > 1:
            raise ConversionError(
                f"{self.line}: {', '.join(self.sources)} are to be fused but have several dtypes, "
                f"{', '.join(sorted(map(str, dtypes)))}. Cast them to one first."
            )
        tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        if self.transpose:
            tensor = tensor.transpose(0, 1)
        if self.order:
            chunks = self.cut(tensor, len(self.order))
            tensor = torch.cat([chunks[k] for k in self.order])
        return self.cut(tensor, len(self.targets))[part]

    def cut(self, tensor: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Return equal parts of axis 0."""
        if parts == 1:
            return (tensor,)
        if tensor.ndim == 0 or tensor.shape[0] % parts:
            shape = tuple(tensor.shape)
            raise ConversionError(
                f"{self.line}: axis 0 of {self.sources[0]}, shape {shape}, is not a multiple of {parts}."
            )
        return tensor.chunk(parts)


KEEP = Rule(("<name*>",), ("<name*>",))


@dataclass(frozen=True)
class KeyMap:
    """A table of rules, with the name and version that go into the metadata of what it converts."""

    version: str
    rules: tuple[Rule, ...]

    @classmethod
    def of_names(cls, version: str, names: Mapping[str, str]) -> KeyMap:
        """Return the map that gives tensors other names, given by the present ones."""
        return cls(version, tuple(Rule((name,), (target,), line=name) for name, target in names.items()))

    @property
    def inverse(self) -> KeyMap:
        return KeyMap(self.version, tuple(rule.inverse for rule in self.rules))

    def bind(self, **values: str) -> KeyMap:
        """Return the map with placeholders replaced: `bind(branch="video", head="")`."""
        return KeyMap(self.version, tuple(rule.bind(values) for rule in self.rules))

    def match(self, tensors: Mapping[str, Any]) -> tuple[list[Write], list[str]]:
        """Return what becomes of `tensors`, in their order, and the names that no rule takes.

        A fusing rule that does not find all its sources takes none.

        Args:
            tensors: of a checkpoint by name, read or not; only what is made of the result needs more than names.

        Raises:
            ConversionError: Two tensors would get the same name, or a rule is not undone by the inverse map.
        """
        groups: dict[tuple, dict[int, str]] = {}
        unmatched = []
        for name in tensors:
            index, position, values = self._first(name)
            if index is None:
                unmatched.append(name)
            else:
                groups.setdefault((index, tuple(sorted(values.items()))), {})[position] = name

        writes: list[Write] = []
        lines = []
        for (index, values), found in groups.items():
            rule = self.rules[index]
            if len(found) < len(rule.sources):
                unmatched += found.values()
                continue
            origin = tuple(found[k] for k in range(len(found)))
            sources = tuple(tensors[name] for name in origin)
            for part, target in enumerate(rule.targets):
                name = fill(target, dict(values))
                writes.append(Write(name, sources, partial(rule.make, part), rule.how, origin))
                lines.append(rule.line)
        self._check(writes, lines)
        return writes, unmatched

    def _first(self, name: str) -> tuple[int | None, int, dict[str, str]]:
        """Return the index of the first rule that takes `name`, which of its sources that is, and the placeholders."""
        whole = self._whole_names.get(name)
        for index, position, pattern in self._patterns:
            if whole is not None and whole[0] < index:
                break
            if found := pattern.fullmatch(name):
                return index, position, found.groupdict()
        return (*whole, {}) if whole is not None else (None, 0, {})

    @cached_property
    def _whole_names(self) -> dict[str, tuple[int, int]]:
        """Sources without placeholders; a dict, since the table of a LoRA has thousands."""
        names: dict[str, tuple[int, int]] = {}
        for index, rule in enumerate(self.rules):
            for position, source in enumerate(rule.sources):
                if not PLACEHOLDER.search(source):
                    names.setdefault(source, (index, position))
        return names

    @cached_property
    def _patterns(self) -> list[tuple[int, int, re.Pattern]]:
        return [
            (index, position, compile_pattern(source))
            for index, rule in enumerate(self.rules)
            for position, source in enumerate(rule.sources)
            if PLACEHOLDER.search(source)
        ]

    def _check(self, writes: list[Write], lines: list[str]) -> None:
        """Raise unless each name is made once, and the way back, if there is one, leads to where it came from."""
        inverse = None if any(rule.function for rule in self.rules) else self.inverse
        known: dict[str, int] = {}
        for k, write in enumerate(writes):
            if (other := known.setdefault(write.name, k)) != k:
                raise ConversionError(
                    f"Two tensors would both become {write.name}: {', '.join(writes[other].origin)} ({lines[other]}) "
                    f"and {', '.join(write.origin)} ({lines[k]})."
                )
            if inverse is None:
                continue
            back, _, values = inverse._first(write.name)
            sources = tuple(fill(source, values) for source in self.rules[back].sources)
            if sources != write.origin:
                raise ConversionError(
                    f"The key map is not reversible: {', '.join(write.origin)} becomes {write.name} ({lines[k]}), but "
                    f"the way back takes {self.rules[back].line} and gives {', '.join(sources)}. Put the narrower "
                    "rule first."
                )


def load_key_map(path: str | Path) -> KeyMap:
    """Return the key map of a YAML file, or of a built-in one by its name (`waver`).

    The file has `version` (a name that goes into the metadata), `rules`, and possibly `extends`, the name of a
    built-in map whose rules are tried after its own; without it, the file replaces that map.

    Raises:
        ConversionError: With the line of the mistake.
    """
    path = Path(path)
    built_in = BUILT_IN / f"{path}.yaml"
    file = built_in if built_in.is_file() else path
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        names = ", ".join(sorted(found.stem for found in BUILT_IN.glob("*.yaml")))
        raise ConversionError(f"Cannot read the key map {path}: {error.strerror}. Built in: {names}.") from error
    except yaml.MarkedYAMLError as error:
        raise ConversionError(f"{path.name}, line {error.problem_mark.line + 1}: {error.problem}.") from error
    return _KeyMapReader(path.name).read(node)


class _KeyMapReader:
    """Builds a `KeyMap` from YAML nodes, which know their lines."""

    def __init__(self, file_name: str):
        self.file_name = file_name

    def fail(self, node: yaml.Node | None, problem: str):
        raise ConversionError(f"{self.where(node)}: {problem}")

    def where(self, node: yaml.Node | None) -> str:
        return f"{self.file_name}, line {node.start_mark.line + 1 if node else 1}"

    def read(self, node: yaml.Node | None) -> KeyMap:
        entries = self.mapping(node, {"version", "rules"}, {"extends"})
        version = self.text(entries["version"])
        rules_node = entries["rules"]
        if not isinstance(rules_node, yaml.SequenceNode):
            self.fail(rules_node, "`rules` must be a list, each line beginning with `- `.")
        rules = tuple(self.rule(item) for item in rules_node.value)
        if "extends" in entries:
            name = self.text(entries["extends"])
            if not (BUILT_IN / f"{name}.yaml").is_file():
                known = ", ".join(sorted(found.stem for found in BUILT_IN.glob("*.yaml")))
                self.fail(entries["extends"], f"`extends` must name a built-in map ({known}), got {name!r}.")
            base = load_key_map(name)
            version, rules = f"{version} + {base.version}", rules + base.rules
        return KeyMap(version, rules)

    def rule(self, node: yaml.Node) -> Rule:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"a rule must begin with a verb and a colon, one of {', '.join(VERBS)}.")
        verbs = [key.value for key, _ in node.value if key.value in VERBS]
        if len(verbs) != 1:
            keys = ", ".join(str(key.value) for key, _ in node.value)
            self.fail(node, f"a rule needs exactly one verb out of {', '.join(VERBS)}, got: {keys}.")
        verb = verbs[0]
        entries = self.mapping(node, {verb, *VERBS[verb][0]}, VERBS[verb][1])
        line = self.where(node)
        sources = self.names(entries[verb], several=verb == "fuse")
        targets = self.names(entries["to"], several=verb == "split") if "to" in entries else ()
        for name in (*sources, *targets):
            if targets and placeholders(name) != placeholders(sources[0]):
                self.fail(
                    node,
                    f"{name} and {sources[0]} must have the same placeholders, or the rule cannot be undone; "
                    f"got {sorted(placeholders(name))} and {sorted(placeholders(sources[0]))}.",
                )
        order = None
        if verb == "swap":
            order = tuple(self.value(entries["order"])) if "order" in entries else (1, 0)
            if sorted(order) != list(range(len(order))):
                self.fail(
                    entries["order"], f"`order` must be the numbers 0 to n - 1 in some order, got {list(order)}."
                )
        return Rule(sources, targets, order=order, transpose=verb == "transpose", line=line)

    def mapping(self, node: yaml.Node | None, required: set[str], optional: set[str]) -> dict[str, yaml.Node]:
        """Return the entries of a mapping, which must be these and no others."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"expected {', '.join(sorted(required))}, each with a colon.")
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.value not in required | optional:
                allowed = ", ".join(sorted(required | optional))
                self.fail(key, f"unknown entry {key.value!r}; allowed here: {allowed}.")
            if key.value in entries:
                self.fail(key, f"{key.value!r} is given twice.")
            entries[key.value] = value
        if missing := sorted(required - set(entries)):
            self.fail(node, f"{', '.join(missing)} is missing.")
        return entries

    def names(self, node: yaml.Node, several: bool) -> tuple[str, ...]:
        """Return a name pattern, or a list of two or more, as a tuple."""
        if not several:
            names = (self.text(node),)
        elif isinstance(node, yaml.SequenceNode) and len(node.value) > 1:
            names = tuple(self.text(item) for item in node.value)
        else:
            self.fail(node, "expected a list of two or more names, [a, b, c].")
        for name in names:
            if set("<>") & set(PLACEHOLDER.sub("", name)):
                self.fail(node, f"{name!r} has a bracket too many: placeholders are <i> and <rest*>.")
        return names

    def text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.fail(node, "expected a word or a name.")
        return node.value

    def value(self, node: yaml.Node) -> Any:
        constructor = yaml.constructor.SafeConstructor()
        return constructor.construct_object(node, deep=True)
