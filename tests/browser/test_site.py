# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The built site in a browser: `make test-site`. With SITE_SCREENSHOTS=FOLDER, an image of each page is put there."""

import ast
import os
import zlib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


REPOSITORY = Path(__file__).parents[2]
SITE = REPOSITORY / "site"
PAGES = sorted(path.parent.relative_to(SITE).as_posix() for path in SITE.rglob("index.html"))
SHIFTED = ("what_is_ours",)  # leads to its new address at once
SCREENSHOTS = os.environ.get("SITE_SCREENSHOTS")

pytestmark = [pytest.mark.site, pytest.mark.needs_program("chromium")]


class Page(HTMLParser):
    """Collects where a page's links lead, and the anchors that others may lead to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.links += [attributes[name] for name in ("href", "src", "poster") if attributes.get(name)]


@cache
def parsed(path: Path) -> Page:
    return Page(path)


def broken_links(path: Path) -> list[str]:
    """Return the links of a page to files of the site, or places in them, that do not exist."""
    broken = []
    for link in parsed(path).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
        if parts.path.startswith("/"):
            target = SITE / unquote(parts.path).lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            broken.append(link)
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).anchors:
            broken.append(link)
    return broken


def test_the_site_has_its_pages(site):
    assert len(PAGES) > 40 and "tutorials/first_clip" in PAGES and "reference/errors" in PAGES


@pytest.mark.parametrize("name", PAGES)
def test_links_and_anchors_of_a_page_lead_somewhere(site, name):
    assert broken_links(site / name / "index.html") == []


def test_a_broken_anchor_is_seen(tmp_path):
    (tmp_path / "index.html").write_text('<a href="#there">x</a><a href="#gone">x</a><p id="there">', encoding="utf-8")
    assert broken_links(tmp_path / "index.html") == ["#gone"]


def test_every_public_class_and_function_is_on_a_page_of_the_reference(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()}
    missing = []
    for path in sorted((REPOSITORY / "src/diffusers_jova").rglob("*.py")):
        parts = path.relative_to(REPOSITORY / "src").with_suffix("").parts
        if "cli" in parts or any(part.startswith("__") for part in parts):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                name = ".".join([*parts, node.name])
                missing += [name] if name not in known else []
    assert missing == []


def serious_faults(page) -> list[str]:
    """Return what axe-core calls serious or critical, with the first places of each."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {[node['html'][:120] for node in fault['nodes'][:3]]}"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", [name for name in PAGES if name not in SHIFTED])
def test_a_page_is_whole_and_can_be_read_by_everybody(open_page, name, width, scheme):
    page = open_page(f"{name}/" if name != "." else "", width, scheme)
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0, f"{too_wide} pixels wider than the window"
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(exist_ok=True)
        page.screenshot(path=f"{SCREENSHOTS}/{name.replace('/', '-')}_{width}_{scheme}.png")
    broken_images = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert page.evaluate(broken_images) == []
    if width == 1400:  # the same rules hold at both widths, and looking for their faults takes long
        assert serious_faults(page) == []


def test_old_addresses_lead_to_the_new_ones(open_page):
    page = open_page("what_is_ours/")
    page.wait_for_url("**/choices/")


@pytest.mark.parametrize(
    "words, where",
    [("mouth loss", "train"), ("no sound", "howto/troubleshooting"), ("must be 4k + 1 for", "reference/errors")],
)
def test_search_finds(open_page, words, where):
    page = open_page("")
    page.locator(".md-search__button").first.click()
    page.keyboard.type(words)
    page.locator(f"a[href*='{where}']:visible").first.wait_for()


def test_code_is_copied_as_it_stands(open_page):
    page = open_page("tutorials/first_clip/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = page.locator("div.highlight").first
    block.hover()
    block.locator("button.md-code__button, button[data-clipboard-target], button[title*='opy']").first.click()
    page.wait_for_timeout(500)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("diffusers-jova generate --prompt") and copied.rstrip().endswith("--output first.mp4")


@pytest.mark.parametrize("name", [name for name in PAGES if name not in SHIFTED])
def test_clips_of_a_page_play_with_their_audio(open_page, site, name):
    if "<video" not in (site / name / "index.html").read_text(encoding="utf-8"):
        pytest.skip("has no clip")
    page = open_page(f"{name}/" if name != "." else "")
    played = page.evaluate(
        """async () => Promise.all([...document.querySelectorAll("video")].map(async video => {
            await video.play();
            await new Promise(done => video.addEventListener("ended", done));
            return [video.currentTime, video.videoWidth, video.webkitAudioDecodedByteCount];
        }))"""
    )
    assert played and all(seconds > 1 and width > 0 and audio_bytes > 0 for seconds, width, audio_bytes in played)
