# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import errno
import subprocess
import sys

import pytest

from diffusers_jova import command
from diffusers_jova.command import run


def raising(error):
    def main(args):
        raise error

    return main


def test_what_main_returns_is_the_status(capsys):
    assert [run(lambda args: args, status) for status in (None, 0, 1)] == [0, 0, 1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("two\n lines \x1b[31m"), "error: two lines \\x1b[31m"),
        (FileNotFoundError("There is no file `\udcff\u202ex`."), "error: There is no file `\\udcff\\u202ex`."),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jsonl"),
         "error: there is no file or folder `a.jsonl`: correct the path"),
        (PermissionError(errno.EACCES, "Permission denied", "x"),
         "error: [Errno 13] Permission denied: 'x': correct the permissions of its folder, or choose another place"),
        (OSError(errno.EMFILE, "Too many files"), "error: [Errno 24] Too many files: raise the limit (`ulimit -n`)"),
        (MemoryError(), "error: there is not enough memory: free some, or choose smaller sizes"),
        (ModuleNotFoundError("No module named 'dlib'"), "error: No module named 'dlib'"),
    ],
)  # fmt: skip
def test_a_foreseeable_error_is_one_line(error, line, capsys):
    assert run(raising(error)) == 2
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_mistake_of_our_own_shows_its_traceback():
    for error in (KeyError("x"), TypeError("x"), AttributeError("x"), RuntimeError("x"), AssertionError()):
        with pytest.raises(type(error)):
            run(raising(error))


def test_the_variable_shows_every_traceback(monkeypatch):
    monkeypatch.setenv(command.DEBUG, "1")
    with pytest.raises(ValueError):
        run(raising(ValueError("x")))


def test_ctrl_c_ends_with_130(capsys):
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_closed_output_ends_quietly():
    code = "import sys; from diffusers_jova.command import run; sys.exit(run(lambda args: print('x' * 10**6)))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    process.stderr.close()


def test_a_name_that_is_no_unicode_is_printed_with_escapes():
    code = "import sys; from diffusers_jova.command import run; sys.exit(run(lambda args: print('caf\\udce9')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "caf\\udce9\n")
