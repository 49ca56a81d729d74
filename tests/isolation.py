# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Fail the very test that leaves something changed which others share, and draw the same numbers in any order.

Shared are: the values of fixtures that outlive a test, down to the last parameter; what a process has once
(environment, torch's and diffusers' settings, registered classes, logging, signals, ...); constants of the package and
of the test's own module; the files of the project. Each is looked at before a test and after its teardown, so that
monkeypatch and function fixtures have put back what they changed. To be changed at will there is `own_pipe`, a copy.
"""

import decimal
import gc
import locale
import logging
import marshal
import multiprocessing
import operator
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import types
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import diffusers
import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, GradientState, PartialState
from diffusers.hooks._helpers import AttentionProcessorRegistry, TransformerBlockRegistry
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


# --- what a value is made of

# Private attributes that change what an object does. Others hold what the last call left behind.
TELLING = ("_internal_dict", "_progress_bar_config", "_all_hooks", "_hf_hook", "_cache_config", "_attention_backend")
TELLING += ("_attn_implementation_internal", "_hf_peft_config_loaded", "_parallel_config")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
HOOKS += ("_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
# what a tokenizer has warned about; names that a config had no values for, in the order of a set
UNTOLD = ("deprecation_warnings", "_use_default_values")
PLAIN = {type(None), bool, int, str, bytes, torch.dtype, torch.device}  # most of what there is
PLAIN_BASES = tuple(PLAIN)
OPAQUE = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


def describe(value: object, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, object]]:
    """Yield the parts of a value, each as (path to it, something that is equal as long as the part is)."""
    seen = set() if seen is None else seen
    if isinstance(value, PLAIN_BASES):
        yield path, value
    elif isinstance(value, (float, complex)):
        yield path, value if value == value else "NaN"
    elif isinstance(value, OPAQUE):
        yield path, value
    elif isinstance(value, Path):
        yield from describe_files(value, path)
    elif isinstance(value, torch.Tensor):
        yield path, describe_tensor(value)
    elif isinstance(value, np.ndarray):
        yield path, (value.dtype, value.shape, zlib.crc32(np.ascontiguousarray(value).view(np.uint8)))
    elif isinstance(value, PIL.Image.Image):
        yield path, (value.mode, value.size, zlib.crc32(value.tobytes()))
    elif isinstance(value, torch.Generator):
        yield path, describe_tensor(value.get_state())
    elif isinstance(value, random.Random):
        yield path, value.getstate()
    elif isinstance(value, np.random.Generator):
        yield path, repr(value.bit_generator.state)
    elif id(value) not in seen:
        seen.add(id(value))
        yield path, type(value)
        yield from describe_parts(value, path, seen)


def describe_parts(value: object, path: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key in UNTOLD:
                continue
            if type(part) in PLAIN:
                yield f"{path}[{key!r}]", part
            else:
                yield from describe(part, f"{path}[{key!r}]", seen)
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from describe(part, f"{path}[{index}]", seen)
    elif isinstance(value, set | frozenset):
        yield path + ".elements", frozenset(map(repr, value))
    elif isinstance(value, diffusers.SchedulerMixin):  # its time steps are made anew in each call
        yield from describe(dict(value.config), path + ".config", seen)
    elif isinstance(value, torch.nn.Module):
        for name, module in value.named_modules():
            yield from describe_module(module, f"{path}.{name}" if name else path, seen)
    else:
        yield from describe_attributes(value, path, seen)


def describe_attributes(value: object, path: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    for name, part in getattr(value, "__dict__", {}).items():
        if name in TELLING or not name.startswith("_") and name not in UNTOLD:
            if type(part) in PLAIN:
                yield f"{path}.{name}", part
            else:
                yield from describe(part, f"{path}.{name}", seen)


def describe_module(module: torch.nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """Yield the parts of one layer without the layers inside it."""
    yield path, type(module)
    for tensors in (module._parameters, module._buffers):
        for name, tensor in tensors.items():
            yield f"{path}.{name}", None if tensor is None else describe_tensor(tensor)
    for name in HOOKS:
        if hooks := getattr(module, name):
            yield f"{path}.{name}", tuple(hooks.values())
    registry = getattr(module, "_diffusers_hook", None)
    if registry and registry.hooks:
        yield f"{path}._diffusers_hook", tuple(registry.hooks)
    yield from describe_attributes(module, path, seen)


def describe_tensor(tensor: torch.Tensor) -> tuple:
    content = None
    if tensor.device.type != "meta":
        # all bytes: writing through `.data` does not count as a new version
        content = zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    grad = tensor.grad if tensor.is_leaf else None
    kind = (tensor.dtype, tensor.shape, tensor.device, tensor.requires_grad)
    return *kind, content, None if grad is None else describe_tensor(grad)


def describe_files(root: Path, path: str) -> Iterator[tuple[str, object]]:
    yield path, root
    for file in (root, *root.rglob("*")) if root.is_dir() else (root,):
        if file.is_file():
            stat = file.stat()
            yield f"{path}/{file.relative_to(root)}", (stat.st_size, stat.st_mtime_ns)


# --- fixtures that outlive a test

SHARED: dict[pytest.FixtureDef, tuple[object, dict[str, object]]] = {}  # what they gave, and how it was when new


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest):
    if fixturedef.scope == "function" or not fixturedef.baseid:  # those of plugins are at the root
        return (yield)
    with random_numbers_of(request.config, fixturedef.argname):  # the same for whichever test asks first
        value = yield
    SHARED[fixturedef] = value, dict(describe(value, fixturedef.argname))
    return value


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef) -> None:
    SHARED.pop(fixturedef, None)


@pytest.fixture(autouse=True)
def shared_fixtures_stay_as_they_are(request):
    """Set up before all other fixtures of a test, so that it looks after all of them have cleaned up."""
    yield
    changes = []
    for fixturedef, (value, before) in SHARED.items():
        if fixturedef.argname in request.fixturenames:
            after = dict(describe(value, fixturedef.argname))
            SHARED[fixturedef] = value, after  # the next test is not to blame
            changes += differences(before, after)
    if changes:
        blame("fixtures that other tests share", changes, "Change a copy (`own_pipe`), or put back what you changed.")


# --- what a process has once


def settings() -> dict[str, object]:
    """Return what a test may not leave changed, by the name to be told."""
    found = {
        "os.getcwd()": os.getcwd(),
        "os.umask()": current_umask(),
        "sys.path": tuple(sys.path),
        "sys.argv": tuple(sys.argv),
        "sys.stdin": sys.stdin,
        "sys.excepthook": sys.excepthook,
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "gc.isenabled()": gc.isenabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal precision": decimal.getcontext().prec,
        "tempfile.tempdir": tempfile.tempdir and Path(tempfile.tempdir),
        "multiprocessing.get_start_method()": multiprocessing.get_start_method(allow_none=True) or START_METHOD,
        "numpy.geterr()": np.geterr(),
        "numpy.get_printoptions()": np.get_printoptions(),
        "PIL.Image.MAX_IMAGE_PIXELS": PIL.Image.MAX_IMAGE_PIXELS,
        "PIL.ImageFile.LOAD_TRUNCATED_IMAGES": PIL.ImageFile.LOAD_TRUNCATED_IMAGES,
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.get_default_device()": torch.get_default_device(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.is_inference_mode_enabled()": torch.is_inference_mode_enabled(),
        "torch.is_anomaly_enabled()": torch.is_anomaly_enabled(),
        "torch.is_autocast_enabled('cpu')": torch.is_autocast_enabled("cpu"),
        "torch.get_deterministic_debug_mode()": torch.get_deterministic_debug_mode(),
        "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
        "torch.backends.mkldnn.enabled": torch.backends.mkldnn.enabled,
        "torch.backends.cudnn.enabled": torch.backends.cudnn.enabled,
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        "torch.backends.cudnn.deterministic": torch.backends.cudnn.deterministic,
        "torch.backends.cuda.math_sdp_enabled()": torch.backends.cuda.math_sdp_enabled(),
        "torch.backends.cuda.flash_sdp_enabled()": torch.backends.cuda.flash_sdp_enabled(),
        "torch.distributed.is_initialized()": torch.distributed.is_initialized(),
        "torch's global hooks": tuple(torch.nn.modules.module._global_forward_hooks.values()),
        "diffusers' active attention backend": _AttentionBackendRegistry._active_backend,
        "diffusers' verbosity": diffusers.utils.logging.get_verbosity(),
        "diffusers' progress bars": diffusers.utils.logging.is_progress_bar_enabled(),
        "transformers' verbosity": transformers.utils.logging.get_verbosity(),
        "transformers' progress bars": transformers.utils.logging.is_progress_bar_enabled(),
        "accelerate's states": [cls.__name__ for cls in ACCELERATE_STATES if cls._shared_state],
    }
    found |= {f"os.environ[{name!r}]": value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    found |= {f"handler of {number.name}": signal.getsignal(number) for number in HANDLED_SIGNALS}
    classes = {name: value for name, value in vars(diffusers).items() if isinstance(value, type)}
    found |= {f"diffusers.{name}": cls for name, cls in classes.items() if not cls.__module__.startswith("diffusers.")}
    for name, registry in REGISTRIES.items():
        found |= {f"{name}[{key!r}]": value for key, value in registry.items()}
    return found


START_METHOD = multiprocessing.get_all_start_methods()[0]  # of whoever asks first
HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE, signal.SIGCHLD)
ACCELERATE_STATES = (AcceleratorState, GradientState, PartialState)
REGISTRIES = {
    "diffusers' LOADABLE_CLASSES": LOADABLE_CLASSES,
    "diffusers' SINGLE_FILE_LOADABLE_CLASSES": SINGLE_FILE_LOADABLE_CLASSES,
    "diffusers' attention backends": _AttentionBackendRegistry._backends,
    "diffusers' attention processors": AttentionProcessorRegistry._registry,
    "diffusers' transformer blocks": TransformerBlockRegistry._registry,
    "transformers' attention functions": ALL_ATTENTION_FUNCTIONS._global_mapping,
    "transformers' own configs": transformers.CONFIG_MAPPING._extra_content,
    "transformers' own models": transformers.MODEL_MAPPING._extra_content,
    "transformers' own tokenizers": transformers.TOKENIZER_MAPPING._extra_content,
}


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def is_of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest")


def loggers() -> dict[str, object]:
    """Return how each logger is set but torch's own. pytest's handlers come and go at the root."""
    known = {"root": logging.root} | logging.root.manager.loggerDict
    return {
        f"logger {name}": (
            logger.level, logger.propagate, logger.disabled,
            tuple(h for h in logger.handlers if not is_of_pytest(h)) if logger.handlers else (),
        )
        for name, logger in known.items() if isinstance(logger, logging.Logger) and not name.startswith("torch.")
    }  # fmt: skip


class NameSpaces:
    """What is in modules and classes. What is as it was is not looked at again: there are hundreds, at every test."""

    def __init__(self):
        self.contents: dict[str, dict[str, object]] = {}
        self.classes: dict[str, list[type]] = {}  # of each module
        self.data: dict[str, dict[str, object]] = {}  # dictionaries, lists, sets and arrays of each module
        self.bytes: dict[str, bytes] = {}  # of the data that marshal knows
        self.parts: dict[str, dict[str, object]] = {}  # of each of the data

    def look(self, name: str, owner: object) -> dict[str, object]:
        """Return a copy of what is in `owner`: the last one, as long as it would be the same objects."""
        content, old = dict(vars(owner)), self.contents.get(name)
        if old is None or not same_objects(old, content):
            self.contents[name] = content
            if isinstance(owner, types.ModuleType):
                own = {key: value for key, value in content.items() if not key.startswith("__")}
                self.classes[name] = [x for x in own.values() if isinstance(x, type) and x.__module__ == name]
                self.data[name] = {f"{name}.{key}": x for key, x in own.items() if isinstance(x, DATA)}
        return self.contents[name]

    def attributes(self) -> dict[str, dict[str, object]]:
        """Return all modules, and what is in those of the package, in its classes and in diffusers' name space."""
        found = {"sys.modules": dict(sys.modules)}
        for name, module in found["sys.modules"].items():
            if name.startswith("diffusers") and (is_ours(name) or name in ("diffusers", "diffusers.pipelines")):
                # torch.compile keeps what it made under such names, for as long as something uses it
                found[name] = self.look(name, module)
                for cls in self.classes[name]:
                    owner = f"{name}.{cls.__qualname__}"
                    found[owner] = self.look(owner, cls)
        return found

    def constants(self, item: pytest.Item) -> dict[str, dict[str, object]]:
        """Return the parts of all data in the package's modules and the test's own, by name."""
        modules = {name: sys.modules[name] for name in self.classes if is_ours(name) and name in sys.modules}
        if getattr(item, "module", None):
            modules[item.module.__name__] = item.module
        found, seen = {}, set()
        for name, module in modules.items():
            self.look(name, module)
            for place, value in self.data[name].items():
                if id(value) not in seen:  # others import it from the first
                    seen.add(id(value))
                    found[place] = self.parts_of(place, value)
        return found

    def parts_of(self, place: str, value: object) -> dict[str, object]:
        content = quick_bytes(value)
        if content is None or self.bytes.get(place) != content:
            self.bytes[place], self.parts[place] = content, dict(describe(value, place))
        return self.parts[place]


def quick_bytes(value: object) -> bytes | None:
    """Return bytes that stay the same as long as the value does, and may differ where it does too; None: no idea."""
    try:
        return marshal.dumps(value, 2) if isinstance(value, dict | list | set) else None
    except ValueError:  # other objects are in it
        pass
    try:
        return pickle.dumps(value, 5)
    except Exception:  # nor can they be pickled
        return None


DATA = (dict, list, set, np.ndarray, torch.Tensor)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "diffusers_jova"


def same_objects(first: dict[str, object], second: dict[str, object]) -> bool:
    return len(first) == len(second) and all(map(operator.is_, first.values(), second.values()))


class ProjectFiles:
    """The names in the project's folders. A folder's time of change says whether it is worth another look."""

    IGNORED = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".cache"}

    def __init__(self, root: Path):
        self.root, self.times, self.entries = str(root), {}, {}

    def look(self, folder: str = "") -> dict[str, object]:
        path = os.path.join(self.root, folder)
        time = os.stat(path).st_mtime_ns
        if self.times.get(folder) != time:
            with os.scandir(path) as entries:
                kept = [entry for entry in entries if entry.name not in self.IGNORED]
            self.times[folder] = time
            self.entries[folder] = [(os.path.join(folder, e.name), e.is_dir(follow_symlinks=False)) for e in kept]
        found = {}
        for name, is_folder in self.entries[folder]:
            found[f"file {name}"] = "there"
            if is_folder and os.path.isdir(os.path.join(self.root, name)):
                found |= self.look(name)
        return found


FILES = pytest.StashKey[ProjectFiles]()
NAMES = pytest.StashKey[NameSpaces]()
BEFORE = pytest.StashKey[tuple]()

GRACE_S = 1.0  # for a thread that is about to end: transformers, once it has loaded a model, does not wait for its own


def state(item: pytest.Item) -> dict[str, dict[str, object]]:
    files = item.config.stash.setdefault(FILES, ProjectFiles(item.config.rootpath))
    names = item.config.stash.setdefault(NAMES, NameSpaces())
    return {
        "settings": settings(),
        "loggers": loggers(),
        "attributes": names.attributes(),
        "constants": names.constants(item),
        "files": files.look(),
        "threads": {thread.name: thread for thread in threading.enumerate() if not thread.daemon},
        "processes": {process.name: process for process in multiprocessing.active_children()},
    }


def changes_between(before: dict, after: dict) -> list[str]:
    changes = differences(before["settings"], after["settings"]) + differences(before["files"], after["files"])
    # Importing brings new modules, loggers and constants, and diffusers fills its name space when asked for a name.
    changes += differences(before["loggers"], {key: after["loggers"].get(key) for key in before["loggers"]})
    for name, parts in before["constants"].items():
        changes += differences(parts, after["constants"].get(name, parts))
    for owner, values in before["attributes"].items():
        now = after["attributes"].get(owner, {})
        if now is values or same_objects(values, now):
            continue
        is_module = owner in before["attributes"]["sys.modules"]
        for name, value in values.items():
            if now.get(name, changes) is not value and not (is_module and name.startswith("__")):
                changes.append(f"{owner}.{name}: {short(value)} -> {short(now.get(name, 'nothing'))}")
    new = [x for kind in ("threads", "processes") for name, x in after[kind].items() if name not in before[kind]]
    for left in new:
        left.join(GRACE_S)
    return changes + [f"still running: {left}" for left in new if left.is_alive()]


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Return one line for each part that is new, gone, or another."""
    if before is after or before == after:
        return []
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {short(before.get(name, 'nothing'))} -> {short(after.get(name, 'nothing'))}"
        for name in names
        if name not in before or name not in after or before[name] != after[name]
    ]


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 90 else text[:87] + "..."


def blame(what: str, changes: list[str], remedy: str) -> None:
    lines = changes[:10] + [f"... and {len(changes) - 10} more"] * (len(changes) > 10)
    pytest.fail("\n  ".join([f"This test left {what} changed:", *lines]) + f"\n{remedy}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item):
    if item.config.stash.get(BEFORE, (None,))[0] is not item.getparent(pytest.Module):  # else nothing ran since then
        item.config.stash[BEFORE] = item.getparent(pytest.Module), state(item)
    draw_numbers_of(item.config, item.nodeid + " setup")
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    draw_numbers_of(item.config, item.nodeid)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item):
    try:
        result = yield
    except BaseException:
        del item.config.stash[BEFORE]
        raise
    module, before = item.config.stash[BEFORE]
    item.config.stash[BEFORE] = module, state(item)  # the next test is not to blame
    if changes := changes_between(before, item.config.stash[BEFORE][1]):
        blame("what all tests share", changes, "Use monkeypatch, tmp_path, or a fixture that puts it back.")
    return result


# --- random numbers


def draw_numbers_of(config: pytest.Config, name: str) -> None:
    """Let torch, numpy and random go on with numbers of the run's seed and a name, whatever ran before.

    pytest-randomly does this for the latter two. A test that leans on such numbers fails for some seeds.
    """
    seed = zlib.crc32(f"{config.getoption('randomly_seed', 0)} {name}".encode())
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def random_numbers_of(config: pytest.Config, name: str) -> Iterator[None]:
    """Let what is drawn inside depend on the run's seed and the name alone, and what is drawn after it not on that."""
    states: list[tuple[Callable, object]] = [
        (torch.set_rng_state, torch.get_rng_state()),
        (np.random.set_state, np.random.get_state()),
        (random.setstate, random.getstate()),
    ]
    draw_numbers_of(config, name)
    try:
        yield
    finally:
        for put_back, state in states:
            put_back(state)
