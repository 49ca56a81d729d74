# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova app` with jova-nano, in a browser: `make test-site`."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from PIL import Image

from diffusers_jova.media import AI_GENERATED_COMMENT, open_input


ANSWERS_WITHIN_S = 60
PATIENCE_MS = 300_000  # for what a slow machine computes
PROMPT = "A woman with long red hair, blue shirt, green wall."

pytestmark = [pytest.mark.site, pytest.mark.needs_program("chromium")]
pytest.importorskip("gradio", reason="needs gradio (pip install '.[app]')")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The address of a running app, its folder for temporary files, and the seconds of work until it answered."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "diffusers_jova", "app", "--server_port", str(port), "--device", "cpu"]
    started_s = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(folder)})
    try:
        address = f"http://127.0.0.1:{port}"
        while not answers(address):
            assert process.poll() is None, "the app has ended"
            assert time.monotonic() - started_s < 5 * ANSWERS_WITHIN_S, "the app does not answer"
            time.sleep(0.2)
        times = psutil.Process(process.pid).cpu_times()  # not of the clock: other programs share the machine
        yield address, str(folder), times.user + times.system
        assert list(folder.glob("diffusers-jova-app-*")) != []
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
    # uploads and clips are gone; torch keeps a folder of its own
    assert [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor")] == []


@pytest.fixture
def open_app(browser, app):
    """Return a function that opens the page as somebody else; a test fails where the page had an error of its own, or
    asked another machine for something."""
    contexts, faults = [], []

    def start():
        context = browser.new_context(viewport={"width": 1400, "height": 1200}, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((app[0], "data:", "blob:")) or faults.append(request.url),
        )
        page.goto(app[0])
        page.locator("#prompt textarea").fill(PROMPT)
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []


def fill_number(page, section: str, name: str, value: float) -> None:
    field = page.locator(f"#{name} textarea, #{name} input")
    if not field.is_visible():
        page.get_by_role("button", name=section).click()
    field.fill(str(value))


def generate(page, steps: int) -> None:
    fill_number(page, "Size, length and steps", "num_inference_steps", steps)
    page.get_by_role("button", name="Generate").click()


def copied(page, name: str) -> str:
    """Return the text of one of the copies, as its button would copy it."""
    page.get_by_role("tab", name=f"Copy as {'Python' if name == 'python' else name}").click()
    lines = page.locator(f"#{name} .cm-line")
    lines.first.wait_for()
    return "\n".join(lines.all_inner_texts())


def played(page) -> list[float]:
    """Play the clip to its end and return its seconds, its width, and the bytes of its audio that were decoded."""
    page.locator("#clip video").wait_for()
    return page.evaluate(
        """async () => {
            const video = document.querySelector("#clip video");
            const ended = new Promise(done => video.addEventListener("ended", done));
            video.currentTime = 0;
            await video.play();
            await ended;
            return [video.currentTime, video.videoWidth, video.webkitAudioDecodedByteCount];
        }"""
    )


def test_the_app_answers_within_a_minute_and_shows_no_other_file(app, open_app):
    address, folder, seconds = app[0], Path(app[1]), app[2]
    assert seconds < ANSWERS_WITHIN_S
    page = open_app()
    (folder / "secret.txt").write_text("hidden")
    try:
        for path in (
            folder / "secret.txt",
            "/etc/passwd",
            f"{next(folder.glob('diffusers*'))}/uploads/../../secret.txt",
        ):
            for way in (
                f"/gradio_api/file={path}",
                f"/file={path}",
                f"/gradio_api/file=..%2f..%2f{path}",
                f"/..{path}",
            ):
                response = page.request.get(address + way)
                assert response.status in (403, 404) and b"hidden" not in response.body(), way
    finally:
        (folder / "secret.txt").unlink()


def test_typed_words_become_a_clip_that_plays_and_can_be_kept(open_app, tmp_path):
    page = open_app()
    page.locator("#transcript textarea").fill("three seven")
    fill_number(page, "Guidance", "guidance_scale", 2)
    generate(page, 2)
    seconds, width, audio_bytes = played(page)
    assert seconds > 1.6 and width == 64 and audio_bytes > 0
    assert page.locator("#mark").inner_text() == f"The file says: {AI_GENERATED_COMMENT}"
    page.locator("#clip_audio #waveform").wait_for()
    assert "transcript='three seven'" in copied(page, "python") and "guidance_scale=2.0" in copied(page, "python")
    assert "--num_inference_steps 2" in copied(page, "command") and "--seed 0" in copied(page, "command")
    assert page.locator("#gallery .thumbnail-item, #gallery button.thumbnail-lg").count() == 1
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "clip.mp4")
    with open_input(tmp_path / "clip.mp4") as container:
        assert container.metadata["comment"] == AI_GENERATED_COMMENT


def test_an_example_fills_in_the_fields(open_app):
    page = open_app()
    page.get_by_text("four two").click()
    page.locator("#image img").wait_for()
    assert page.locator("#transcript textarea").input_value() == "four two"


def test_stopping_in_the_middle_leaves_the_page_ready(open_app):
    page = open_app()
    generate(page, 2000)
    page.get_by_text(re.compile(r"Step \d+ of 2000")).first.wait_for()  # a quick machine shows no step for long
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped: nothing was kept of this clip.").wait_for()
    assert page.locator("#clip video").count() == 0
    generate(page, 1)
    assert played(page)[1] == 64


def test_two_people_at_once_get_their_own_clips(open_app):
    pages = [open_app(), open_app()]
    for seed, page in enumerate(pages, start=1):
        page.locator("#seed textarea, #seed input").fill(str(seed))
        generate(page, 2)
    for seed, page in enumerate(pages, start=1):
        page.locator("#clip video").wait_for()
        assert f"--seed {seed}" in copied(page, "command")
        assert page.locator("#gallery .thumbnail-item, #gallery button.thumbnail-lg").count() == 1


def test_a_wrong_file_is_refused_in_the_words_of_the_pipeline(app, open_app, tmp_path):
    page = open_app()
    (tmp_path / "me.png").write_text("This is not an image.")
    page.locator("#image input[type=file]").set_input_files(tmp_path / "me.png")
    page.locator("#image img").wait_for(state="attached")
    generate(page, 1)
    toast = page.get_by_text("`me.png` is not an image that can be read")
    toast.wait_for()
    assert app[1] not in toast.inner_text()
    page.locator("#image").get_by_label("Remove Image").click()
    page.locator("#image img").wait_for(state="detached")
    Image.linear_gradient("L").save(tmp_path / "me.png")
    page.locator("#image input[type=file]").set_input_files(tmp_path / "me.png")
    page.locator("#image img").wait_for()
    generate(page, 1)
    assert played(page)[1] == 64 and "image='me.png'" in copied(page, "python")


def test_an_image_of_50_mb_is_refused(open_app, tmp_path):
    page = open_app()
    (tmp_path / "large.png").write_bytes(bytes(50_000_000))
    page.locator("#image input[type=file]").set_input_files(tmp_path / "large.png")
    page.get_by_text("maximum allowed size").first.wait_for()
    assert page.locator("#image img").count() == 0


def test_a_file_that_is_too_large_is_refused_by_the_server_too(app):
    head = '--limit\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png'
    data = f"{head}\r\n\r\n".encode() + bytes(50_000_000) + b"\r\n--limit--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    request = urllib.request.Request(f"{app[0]}/gradio_api/upload", data=data, headers=headers)
    with pytest.raises(OSError):  # it answers 413 and closes, while we may still be sending
        urllib.request.urlopen(request, timeout=120)
    files = [path for path in Path(app[1]).rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < 20_000_000
