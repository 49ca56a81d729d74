# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Key maps: tables that rename, split and reorder the tensors of a checkpoint, read forwards and backwards.

A key map is data, a YAML file (docs/conversion.md shows how to write one). Each rule is one of the verbs below. Names
are patterns: `<i>` stands for one component of a dotted name, `<rest*>` for one or more. The first rule that matches a
name is the one that applies, and the inverse of a table is the table of the inverse rules, in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .errors import ConversionError


BUILT_IN = Path(__file__).parent / "key_maps"  # FILE.yaml there can be named in `extends`
SIDES = ("file", "model")
# verb -> the entries that a rule must have beside it, and those that it may have
VERBS: dict[str, tuple[set[str], set[str]]] = {
    "rename": ({"to"}, set()),
    "split": ({"to"}, set()),
    "fuse": ({"to"}, set()),
    "swap": ({"to"}, {"order"}),
    "transpose": ({"to"}, set()),
    "constant": ({"value"}, {"shape", "dtype", "in"}),
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
    targets. A rule without sources makes a constant; one without targets checks it (`constant`) or drops it.

    Args:
        sources, targets: name patterns with the same placeholders.
        order: chunk `k` of the result is chunk `order[k]` of the source.
        transpose: exchange axes 0 and 1.
        constant: the tensor that is made or expected.
        line: where the rule stands, for messages.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    order: tuple[int, ...] | None = None
    transpose: bool = False
    constant: Tensor | None = None
    line: str = ""

    @cached_property
    def patterns(self) -> tuple[re.Pattern, ...]:
        return tuple(compile_pattern(source) for source in self.sources)

    @property
    def inverse(self) -> Rule:
        order = self.order and tuple(self.order.index(k) for k in range(len(self.order)))
        return replace(self, sources=self.targets, targets=self.sources, order=order)

    def bind(self, values: Mapping[str, str]) -> Rule:
        """Return the rule with some placeholders, such as `<branch>`, replaced on both sides."""
        sources, targets = (tuple(fill(name, values) for name in names) for names in (self.sources, self.targets))
        return replace(self, sources=sources, targets=targets)

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the tensors of `targets`, given those of `sources`; works on the meta device too.

        Raises:
            ConversionError: Sources of several dtypes, an axis that cannot be cut evenly, or another constant.
        """
        if not self.sources:
            return [self.constant]
        if not self.targets:
            if self.constant is not None and not tensors[0].is_meta and not torch.equal(tensors[0], self.constant):
                raise ConversionError(f"{self.line}: {self.sources[0]} is not the constant that the key map expects.")
            return []
        dtypes = {tensor.dtype for tensor in tensors}
        if len(dtypes) > 1:
            raise ConversionError(
                f"{self.line}: {', '.join(self.sources)} are to be fused but have several dtypes, "
                f"{', '.join(sorted(map(str, dtypes)))}. Cast them to one first."
            )
        tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        if self.transpose:
            tensor = tensor.transpose(0, 1)
        for parts in (self.order and len(self.order), len(self.targets)):
            if parts and parts > 1 and (tensor.ndim == 0 or tensor.shape[0] % parts):
                raise ConversionError(
                    f"{self.line}: axis 0 of {self.sources[0]}, shape {tuple(tensor.shape)}, is not a multiple of "
                    f"{parts}."
                )
        if self.order:
            chunks = tensor.chunk(len(self.order))
            tensor = torch.cat([chunks[k] for k in self.order])
        return list(tensor.chunk(len(self.targets))) if len(self.targets) > 1 else [tensor]


@dataclass(frozen=True)
class Match:
    """A rule and the tensors of one checkpoint that it applies to, by name."""

    rule: Rule
    sources: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class KeyMap:
    """A table of rules, with the name and version that go into the metadata of what it converts."""

    version: str
    rules: tuple[Rule, ...]

    @property
    def inverse(self) -> KeyMap:
        return KeyMap(self.version, tuple(rule.inverse for rule in self.rules))

    def bind(self, **values: str) -> KeyMap:
        """Return the map with placeholders replaced: `bind(branch="video", head="")`."""
        return KeyMap(self.version, tuple(rule.bind(values) for rule in self.rules))

    def resolve(self, names: Iterable[str]) -> tuple[list[Match], list[str]]:
        """Return which rule applies to which of `names`, in their order, and the names that no rule takes.

        A fusing rule that does not find all its sources takes none.

        Raises:
            ConversionError: Two tensors would get the same name, or a rule is not undone by the inverse map.
        """
        groups: dict[tuple, dict[int, str]] = {}
        unmatched = []
        for name in names:
            rule, position, values = self._first(name)
            if rule is None:
                unmatched.append(name)
            else:
                groups.setdefault((rule, tuple(sorted(values.items()))), {})[position] = name

        matches = []
        for (index, values), sources in groups.items():
            rule = self.rules[index]
            if len(sources) < len(rule.sources):
                unmatched += sources.values()
                continue
            targets = tuple(fill(target, dict(values)) for target in rule.targets)
            matches.append(Match(rule, tuple(sources[k] for k in range(len(sources))), targets))
        matches += [
            Match(rule, (), rule.targets) for rule in self.rules if not rule.sources and rule.constant is not None
        ]
        self._check_reversible(matches)
        return matches, unmatched

    def _first(self, name: str) -> tuple[int | None, int, dict[str, str]]:
        """Return the index of the first rule that takes `name`, which of its sources that is, and the placeholders."""
        for index, rule in enumerate(self.rules):
            for position, pattern in enumerate(rule.patterns):
                if found := pattern.fullmatch(name):
                    return index, position, found.groupdict()
        return None, 0, {}

    def _check_reversible(self, matches: list[Match]) -> None:
        inverse, origin = self.inverse, {}
        for match in matches:
            for target in match.targets:
                if (other := origin.setdefault(target, match)) is not match:
                    raise ConversionError(
                        f"Two tensors would both become {target}: {', '.join(other.sources)} ({other.rule.line}) and "
                        f"{', '.join(match.sources)} ({match.rule.line})."
                    )
                back, _, values = inverse._first(target)
                sources = tuple(fill(source, values) for source in self.rules[back].sources)
                if sources != match.sources:
                    raise ConversionError(
                        f"The key map is not reversible: {', '.join(match.sources)} becomes {target} "
                        f"({match.rule.line}), but the way back takes {self.rules[back].line} and gives "
                        f"{', '.join(sources)}. Put the narrower rule first."
                    )

    def apply(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the converted state dict; every tensor must be taken by some rule.

        Raises:
            ConversionError: Names that no rule takes, or what `resolve` and the rules raise.
        """
        matches, unmatched = self.resolve(state_dict)
        if unmatched:
            raise ConversionError(f"No rule takes {len(unmatched)} tensors: {', '.join(unmatched[:5])}.")
        return {
            target: tensor
            for match in matches
            for target, tensor in zip(
                match.targets, match.rule([state_dict[name] for name in match.sources]), strict=True
            )
        }


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
        if verb == "constant":
            return self.constant(entries, line)
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

    def constant(self, entries: dict[str, yaml.Node], line: str) -> Rule:
        names = self.names(entries["constant"], several=False)
        if placeholders(names[0]):
            self.fail(entries["constant"], "a constant has one name, without placeholders. `drop` takes a pattern.")
        side = self.text(entries["in"]) if "in" in entries else SIDES[0]
        if side not in SIDES:
            self.fail(entries["in"], f"`in` must be one of {', '.join(SIDES)}, got {side!r}.")
        dtype = getattr(torch, self.text(entries["dtype"]), None) if "dtype" in entries else torch.float32
        if not isinstance(dtype, torch.dtype):
            self.fail(entries["dtype"], f"`dtype` must be torch's name of one, such as bfloat16, got {dtype!r}.")
        try:
            tensor = torch.tensor(self.value(entries["value"]), dtype=dtype)
            if "shape" in entries:
                tensor = tensor.expand(self.value(entries["shape"])).clone()
        except (TypeError, ValueError, RuntimeError) as error:
            self.fail(entries["value"], f"`value` does not make a tensor: {error}.")
        sources, targets = (names, ()) if side == "file" else ((), names)
        return Rule(sources, targets, constant=tensor, line=line)

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
