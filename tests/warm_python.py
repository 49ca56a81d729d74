# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A Python that has imported what is slow to import; each program runs in a fork of it, as `python PROGRAM` would.

Importing torch, diffusers and transformers takes 4 to 6 seconds of CPU time: more than most programs in the tests need
for their work. A fork shares the imports and nothing else: it has its own arguments, environment and folder.

    with WarmPython(["torch", "diffusers"]) as python:
        done = python.run("-m", "diffusers_jova", "create", "--output", folder)

`python.command` stands for `python` in a command line. Where there is no fork to rely on, each runs by itself.
"""

import importlib
import json
import os
import runpy
import secrets
import select
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence


class WarmPython:
    """Programs of an interpreter, each in a fork of one process.

    Args:
        modules: what the process imports before the first program.
        executable: the interpreter, this one by default.
        environment: of the process; `run` may give a program another one, which Python itself has not read.
    """

    def __init__(
        self, modules: Sequence[str], executable: str = sys.executable, environment: dict[str, str] | None = None
    ):
        self.environment = dict(os.environ if environment is None else environment)
        self.command = [executable]
        self.server = None
        if sys.platform == "linux":  # macOS has fork, but its libraries do not go on in one
            name = f"warm-python-{secrets.token_hex(8)}"
            serve = [executable, __file__, "--serve", name, *modules]
            self.server = subprocess.Popen(serve, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.command = [executable, "-I", "-S", __file__, "--run", name]  # a start of 10 ms

    def run(self, *arguments, **kwargs) -> subprocess.CompletedProcess:
        """Return how a program ended, and what it printed: the arguments are those after `python`."""
        command = [*self.command, *map(str, arguments)]
        return subprocess.run(command, **{"env": self.environment, "capture_output": True, "text": True, **kwargs})

    def run_script(self, script, *arguments, folder, **variables) -> subprocess.CompletedProcess:
        """Return how a shell script ended, whose $PYTHON stands for this one: a file that is written to `folder`."""
        program = os.path.join(folder, "python")  # one word, in whatever folder
        with open(program, "w") as file:
            file.write(f'#!/bin/sh\nexec {shlex.join(self.command)} "$@"\n')
        os.chmod(program, 0o755)
        environment = self.environment | {"PYTHON": program} | variables
        command = ["sh", *map(str, (script, *arguments))]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def __enter__(self):
        if self.server is not None and self.server.stdout.readline() != b"ready\n":
            raise RuntimeError(f"The process that is to import modules ended with {self.server.wait()}.")
        return self

    def __exit__(self, *exception):
        if self.server is not None:
            self.server.communicate()  # it ends when its standard input does


def serve(name: str, modules: Sequence[str]) -> None:
    """Import modules, and run what is asked for in forks until the standard input ends."""
    del sys.path[0]  # the folder of this file
    for module in modules:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                message, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
                if is_program(connection, streams):
                    break
        else:
            return
    for number, (name, stream) in enumerate(zip(("stdin", "stdout", "stderr"), streams)):
        os.dup2(stream, number)
        os.close(stream)
        old = getattr(sys, name)  # what it has found out about its file does not hold for another
        setattr(sys, name, open(number, old.mode, old.line_buffering or -1, old.encoding, old.errors, closefd=False))
    start(**json.loads(message))


def is_program(connection: socket.socket, streams: Sequence[int]) -> bool:
    """Return True in the process that is to become the program, False in this one.

    A third process waits for the program and tells how it ended: so a program may start others.
    """
    waiter = os.fork()
    if not waiter:
        if not (program := os.fork()):
            return True
        status = os.waitpid(program, 0)[1]
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    for stream in streams:
        os.close(stream)
    return False


def start(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Do what `python ARGUMENTS` does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    first, *rest = arguments
    if first == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [""]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv, sys.path[:0] = rest, [folder]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = arguments, [os.path.dirname(os.path.abspath(first))]
        runpy.run_path(first, run_name="__main__")


def ask(name: str, arguments: list[str]) -> None:
    """Let the process of this name run a program with the streams of this one, and end as the program does."""
    message = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(f"\0{name}")
        socket.send_fds(connection, [json.dumps(message).encode()], [0, 1, 2])
        status = int(connection.recv(100))
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    mode, name, *arguments = sys.argv[1:]
    {"--serve": serve, "--run": ask}[mode](name, arguments)
