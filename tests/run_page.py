# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Run the code blocks of a page in order, as a reader does who pastes them one by one, in the folder where one is:

    cd "$(mktemp -d)" && python .../tests/run_page.py .../docs/tutorials/first_clip.md

| block | what happens |
|---|---|
| ```python | it runs; all of a page share their names |
| ```bash | bash runs it, and stops at the first command that fails |
| ```yaml title="settings.yaml", or any other language with a title | the file is written |
| ```text and all others | nothing: what a program prints, or what cannot be run here |

What only the tests do stands in a comment, which readers of the site do not see, with its reason:

    <!-- test bash: 2 steps instead of 400, so that the page takes seconds
    echo "max_train_steps: 2" > lora_nano.yaml
    -->

`<!-- test needs: flite -->` names programs without which the page is not run, `<!-- test steps: 8 -->` says with how
many steps `jova-nano` makes its clips on the page, instead of the 30 that its folder says. `$REPOSITORY` is the
checkout.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path


BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>\w+)(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)(?P=fence)$"
    r"|^<!-- test (?P<hidden>python|bash): [^\n]+\n(?P<hidden_code>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
TITLE = re.compile(r"""title=["']?([^"'\s}]+)""")
STEPS = re.compile(r"^<!-- test steps: (\d+) -->$", re.MULTILINE)
NEEDS = re.compile(r"^<!-- test needs: (.+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A piece of code of a page, or a file that it shows.

    Attributes:
        language: "python", "bash" or what else stands behind the fence.
        code: without the indentation of the fence.
        line: of the page, from 1, where the code begins.
        file: the name of the file that the block is; None for code.
    """

    language: str
    code: str
    line: int
    file: str | None = None


def read_blocks(page: str) -> list[Block]:
    """Return the blocks of a page that are run or written, in order."""
    blocks = []
    for found in BLOCK.finditer(page):
        language = found["language"] or found["hidden"]
        code = textwrap.dedent(found["code"] if found["hidden"] is None else found["hidden_code"])
        title = TITLE.search(found["options"] or "")
        if language in ("python", "bash") or title:
            line = page.count("\n", 0, found.start()) + 2
            blocks.append(Block(language, code, line, title and title[1]))
    return blocks


def needed_programs(page: str) -> list[str]:
    """Return the programs that a page says it needs."""
    return [program for found in NEEDS.finditer(page) for program in found[1].split()]


def make_model_with(steps: int) -> None:
    """Make a folder "jova-nano", which goes before the one that comes with the package: its weights, other steps."""
    from diffusers_jova.pipeline_folder import INDEX, read_pipeline_folder

    shipped, folder = read_pipeline_folder("jova-nano"), Path("jova-nano")
    folder.mkdir()
    for part in shipped.path.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / INDEX).unlink()
    (folder / INDEX).write_text(json.dumps(dict(shipped.index) | {"num_inference_steps": steps}), encoding="utf-8")


def run_page(path: Path) -> int:
    """Run the blocks of a page in this folder and return how many there are.

    Raises:
        subprocess.CalledProcessError: If a command fails. What a Python block raises goes through.
    """
    names, environment = (
        {"__name__": "__main__"},
        os.environ | {"REPOSITORY": str(Path(__file__).resolve().parents[1])},
    )
    page = path.read_text(encoding="utf-8")
    blocks = read_blocks(page)
    if steps := STEPS.search(page):
        make_model_with(int(steps[1]))
    for block in blocks:
        print(f"--- {path.name}, line {block.line}: {block.file or block.language}", flush=True)
        if block.file:
            Path(block.file).write_text(block.code, encoding="utf-8")
        elif block.language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.code]
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True)
        else:  # the empty lines make its lines those of the page, where a traceback looks for them
            exec(compile("\n" * (block.line - 1) + block.code, path, "exec"), names)
    return len(blocks)


if __name__ == "__main__":
    print(run_page(Path(sys.argv[1]).resolve()), "blocks run")
