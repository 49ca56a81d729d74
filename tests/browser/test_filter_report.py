# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The page of `filter --report` in a browser: everything on it is in the file, and its clips can be seen and heard."""

import cv2  # noqa: F401 - it sets LD_LIBRARY_PATH when it is imported first, as in tests/dataset
import pytest
from plain_films import COLOURS, SquareFinder, scene, voice, write_film

from diffusers_jova.dataset.filter import FilterConfig, filter_clips
from diffusers_jova.dataset.filters import choose_thresholds


pytestmark = [pytest.mark.site, pytest.mark.needs_program("chromium")]


def test_clips_on_both_sides_of_a_threshold_can_be_seen_and_heard(browser, tmp_path):
    for number, loud in enumerate((0.01, 1, 1)):
        write_film(tmp_path / "clips" / f"{number}.mp4", [scene(COLOURS[number], 15)], loud * voice(15))
    thresholds = dict.fromkeys(choose_thresholds({})) | {"min_loudness": -30}
    config = FilterConfig(str(tmp_path / "clips"), str(tmp_path / "out"), thresholds, None, num_workers=0, report=True)
    filter_clips(config, SquareFinder())

    page, faults = browser.new_page(), []
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or faults.append(request.url))
    page.goto((tmp_path / "out" / "report.html").as_uri())
    assert page.locator("video").count() == 3
    page.evaluate("for (const video of document.querySelectorAll('video')) video.play()")
    plays = "video => video.currentTime > 0 && video.webkitAudioDecodedByteCount > 0 && video.videoHeight == 160"
    page.wait_for_function(f"[...document.querySelectorAll('video')].every({plays})", timeout=60_000)
    assert "it is too quiet" in page.locator("body").inner_text() and page.locator("img").count() >= 10
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
    assert broken == 0 and faults == []
    page.close()
