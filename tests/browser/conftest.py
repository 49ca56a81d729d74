# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The built site, served on this machine alone, and Debian's chromium to look at it."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest


SITE = Path(__file__).parents[2] / "site"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing. `Range` is answered, since browsers ask for a clip in pieces."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not first.isdigit() or not path.is_file():
            return super().do_GET()
        data = path.read_bytes()
        piece = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece)


@pytest.fixture
def site() -> Path:
    """The folder of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.fail("There is no site/: make test-site builds it first, as does make docs.")
    return SITE


@pytest.fixture(scope="session")
def address():
    """Where the site is served."""
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install '.[site]')")
    with playwright.sync_playwright() as started:
        program = shutil.which("chromium")
        browser = started.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(site, browser, address):
    """Return a function that opens a page of the site; a test ends with an error where the page had one."""
    contexts, faults = [], []

    def start(path: str, width: int = 1400, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and faults.append(f"{path}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"{path}: {error}"))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or faults.append(request.url),
        )
        page.on(
            "response", lambda response: response.status < 400 or faults.append(f"{response.status} {response.url}")
        )
        page.goto(f"{address}/{path}")
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []
