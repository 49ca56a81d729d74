# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Every code block of the tutorials and guides runs, in order, in an empty folder: `make test-docs`.

They take minutes, so `make test` leaves them out (the marker `pages`) and tests only what runs them.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from run_page import Block, needed_programs, read_blocks, run_page
from warm_python import WarmPython


DOCS = Path(__file__).parents[1] / "docs"
RUN_PAGE = Path(__file__).parent / "run_page.py"
# The examples of other pages are pieces of a call, or stand in tests of their own.
PAGES = [DOCS / "conversion.md", *sorted((DOCS / "tutorials").glob("*.md")), *sorted((DOCS / "howto").glob("*.md"))]
# What most blocks import, once and not once per command
MODULES = ["peft", "diffusers_jova.training.train_lora", "diffusers_jova.data.preprocessing"]
MODULES += ["diffusers_jova.pipelines.pipeline_jova", "diffusers.schedulers.scheduling_flow_match_euler_discrete"]


@pytest.fixture(scope="module")
def warm_python(tmp_path_factory):
    """An interpreter whose `diffusers-jova` and `python`, also of bash blocks, are forks of it."""
    programs = tmp_path_factory.mktemp("programs")
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    with WarmPython(MODULES, environment=environment) as python:
        for name, arguments in {"python": [], "diffusers-jova": ["-m", "diffusers_jova"]}.items():
            command = shlex.join([*python.command, *arguments])
            (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
            (programs / name).chmod(0o755)
        yield python


def marked(page: Path):
    """Return a page as a parameter, skipped where a program is missing that it needs."""
    needs = needed_programs(page.read_text(encoding="utf-8"))
    return pytest.param(page, id=str(page.relative_to(DOCS)), marks=pytest.mark.needs_program("bash", *needs))


@pytest.mark.pages
@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_all_blocks_of_a_page_run_in_order(page, warm_python, tmp_path):
    if not read_blocks(page.read_text(encoding="utf-8")):
        pytest.skip("has no code")
    done = warm_python.run(RUN_PAGE, page, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    assert done.stdout.endswith(" blocks run\n")


PAGE = """\
# A page

```bash
echo "shown" > shown.txt
```

```yaml title="settings.yaml"
steps: 400
```

<!-- test bash: 2 steps instead of 400
echo "steps: 2" > settings.yaml
-->

1. Indented:

    ```python
    from pathlib import Path

    shown = Path("shown.txt").read_text().strip()
    ```

```text
not run
```

```python
assert shown == "shown" and Path("settings.yaml").read_text() == "steps: 2\\n"
Path("done").touch()
```
"""


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    """Return a function that writes a page; the test is in an empty folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def write(text):
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        return tmp_path / "page.md"

    return write


def test_blocks_are_found_with_their_lines_and_what_is_not_code_is_left():
    blocks = read_blocks(PAGE)
    assert [block.language for block in blocks] == ["bash", "yaml", "bash", "python", "python"]
    assert blocks[1] == Block("yaml", "steps: 400\n", 8, "settings.yaml")
    assert blocks[3].code.startswith("from pathlib")
    assert PAGE.split("\n")[blocks[3].line - 1] == "    from pathlib import Path"
    assert needed_programs("<!-- test needs: flite ffprobe -->\n") == ["flite", "ffprobe"]


@pytest.mark.needs_program("bash")
def test_blocks_run_in_order_with_the_hidden_ones_and_share_their_names(page_of, capfd):
    assert run_page(page_of(PAGE)) == 5
    assert Path("done").exists()
    assert "--- page.md, line 8: settings.yaml\n" in capfd.readouterr().out


@pytest.mark.needs_program("bash")
@pytest.mark.parametrize("code", ["false\ntrue", "false | true", "echo $UNSET", "no-such-program"])
def test_a_command_that_fails_fails_the_page(page_of, capfd, code):
    with pytest.raises(subprocess.CalledProcessError):
        run_page(page_of(f"```bash\n{code}\n```\n"))


def test_an_error_of_python_names_the_line_of_the_page(page_of, tmp_path):
    page = page_of("# Title\n\n```python\nfine = 1\n1 / 0\n```\n")
    done = subprocess.run([sys.executable, RUN_PAGE, page], capture_output=True, text=True, cwd=tmp_path / "empty")
    assert done.returncode == 1 and f'File "{page}", line 5' in done.stderr and "ZeroDivisionError" in done.stderr
