# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Reports as Markdown and HTML: all numbers with what they are of, texts of others as texts, and nothing to load."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from diffusers_jova.evaluation.published import published_rows
from diffusers_jova.evaluation.report import load_report, write_html, write_markdown
from diffusers_jova.media import write_video


HOSTILE = "</td><script>alert('x')</script> | **bold** [link](https://example.org) \u202e $\\frac{1}{2}$ &amp;"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page, and says whether its elements fit into each other."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.attributes, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def images(self):
        sources = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        assert all(source.startswith("data:image/") for source in sources)
        return [(source[5:].split(";")[0], base64.b64decode(source.split(",")[1])) for source in sources]


def column(name, better, range=""):
    return {"name": name, "better": better, "range": range}


def summary(metric, mean, interval, used, expected, statuses, notes=()):
    entry = {"metric": metric, "mean": mean, "interval": interval, "n_used": used, "n_expected": expected}
    return entry | {"statuses": statuses, "notes": list(notes)}


def result(status, expected=True, details=None, **values):
    return {
        "status": status,
        "expected": expected,
        "values": {name.replace("_", "-"): value for name, value in values.items()},
        "details": details or {},
    }


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """A report in the form of `score`: four clips in two sets, of which one lacks its face; nobody changes it."""
    folder = tmp_path_factory.mktemp("scored")
    clips = []
    for index, brightness in enumerate((40, 200, 120, 80)):
        path = folder / f"{index}.mp4"
        frames = np.full((9, 32, 64, 3), brightness, np.uint8)
        frames[4:, :, 32:] = 255 - brightness
        write_video(path, frames, 10)
        lips = result("no_face") if index == 2 else result("ok", details={"offsets": [index]}, LSE_C=5.0 + index)
        clip = {
            "name": f"set{index % 2 + 1}/{index}",
            "id": str(index),
            "set": f"set{index % 2 + 1}",
            "file": str(path),
        }
        clip |= {"num_frames": 9, "frame_rate": 10.0, "height": 32, "width": 64, "prompt": {}}
        clips.append(clip | {"results": {"LSE": lips, "WER": result("ok", WER=0.25 * index)}})
    clips[0]["name"] = HOSTILE
    clips[1]["results"]["WER"]["details"] = {"transcript": HOSTILE}
    header = {
        "created": "2026-11-27T12:00:00+00:00",
        "command": ["score", "clips/", "--layout", "{set} {id}.mp4"],
        "clips": "/home/me/clips",
        "prompts": "p.jsonl",
        "profile": "paper",
        "variants": {"LSE": "s3fd50", "WER": "whisper"},
        "options": {"audio": "auto"},
        "seed": 0,
        "device": "cpu",
        "versions": {"torch": "2.13"},
        "weights": [{"name": "sfd_face.pth", "sha256": "ab" * 32, "source": "https://example.org/", "licence": "MIT"}],
        "not_measured": {"ID": "missing: dinov3/"},
        "not_comparable": [],
    }
    metrics = [
        {"name": "LSE", "title": "lips against audio", "variant": "s3fd50", "local": False,
         "average": "mean over clips", "columns": [column("LSE-C", "higher", "0 to 10")],
         "weights": ["sfd_face.pth"]},
        {"name": "WER", "title": "words heard", "variant": "whisper", "local": False, "average": "mean over clips",
         "columns": [column("WER", "lower")], "weights": []},
    ]  # fmt: skip
    whole = {
        "LSE-C": summary("LSE", 19 / 3, [5.0, 8.0], 3, 4, {"no_face": 1, "ok": 3}, ["1 clip has two faces"]),
        "WER": summary("WER", 0.375, None, 4, 4, {"ok": 4}),
    }
    half = {"LSE-C": summary("LSE", 5.0, None, 1, 2, {"ok": 1}), "WER": summary("WER", 0.25, None, 2, 2, {"ok": 2})}
    return {
        "format": "diffusers-jova score 1",
        "header": header,
        "metrics": metrics,
        "clips": clips,
        "summary": {"all": whole, "set1": half, "set2": half},
        "without_prompt": ["/home/me/clips/stray.mp4"],
        "published": published_rows("klear"),
        "open_points": ["Seeds are unpublished."],
    }


@pytest.fixture(scope="session")
def page(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(report, path)
    return path.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(page):
    read = Page(page)
    assert read.tags[:2] == ["html", "head"] and not {"script", "link", "iframe", "object"} & set(read.tags)
    loads = [value for _, name, value in read.attributes if name in ("src", "href", "srcset", "action", "poster")]
    assert loads and all(value.startswith("data:image/") for value in loads)
    assert not re.search(r"url\(|@import", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1])


def test_pictures_load_nothing_either(page):
    for kind, data in Page(page).images:
        if kind == "image/svg+xml":
            for element in ElementTree.fromstring(data).iter():
                links = [value for name, value in element.attrib.items() if name.endswith("href")]
                assert all(link.startswith("#") for link in links)


def test_every_number_has_its_protocol_interval_and_clips(page):
    text = Page(page).text
    assert "LSE-C ↑ s3fd50 6.333 [5.000 to 8.000] · 3/4" in text
    assert "WER ↓ whisper 0.375 · 4/4" in text
    assert "LSE-C ↑ (s3fd50)" in text and "no_face 1, ok 3" in text
    assert "sfd_face.pth (sha256 " + "ab" * 32 in text
    for note in (
        "1 clip has two faces",
        "ID was not measured: missing: dinov3/",
        "stray.mp4",
        "Seeds are unpublished.",
    ):
        assert note in text


def test_texts_of_others_are_shown_as_they_are(page, report, tmp_path):
    text = Page(page).text
    assert "</td><script>alert('x')</script> | **bold** [link](https://example.org) \\u202e" in text
    assert "<script" not in page and "\u202e" not in page
    write_markdown(report, tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    for markup in ("<script", "**bold**", "[link](", "https://", "\u202e"):
        assert markup not in written
    rows = [line for line in written.split("\n") if line.startswith("| ") and "alert" in line]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)  # three cells, as their table's head


def test_the_worst_clips_come_first_with_frames_and_their_times(page):
    read = Page(page)
    strips = [Image.open(io.BytesIO(data)) for kind, data in read.images if kind == "image/jpeg"]
    assert len(strips) == 3 + 4  # of LSE-C, of WER
    assert {strip.size for strip in strips} == {(6 * 224, 112)}
    means = [np.asarray(strip.convert("L"), np.float64).mean() for strip in strips]
    first = np.asarray(strips[0].convert("L"), np.float64)
    assert abs(first[:, :224].mean() - 40) < 6 and abs(first[:, -100:].mean() - 215) < 6  # the lowest LSE-C is clip 0
    assert means[0] < means[1]
    assert read.text.count("0.00 s 0.20 s 0.30 s 0.50 s 0.60 s 0.80 s") == 7
    assert read.text.index("set2/3: WER 0.750") < read.text.index("WER 0.250") < read.text.index("WER 0.000")


def test_papers_stand_in_tables_of_their_own_with_source_and_protocol(page):
    text = Page(page).text
    apart = text[text.index("What papers print") :]
    assert "LSE-C (called SNC)" in apart and "Klear 0.48 0.51 0.59 1.36 1.06 0.232 0.028 6.79 0.65" in apart
    assert "arXiv:2601.04151" in apart and "first-hand" in apart and "its code is not public" in apart
    assert "SNC" not in text[: text.index("What papers print")]


def test_columns_of_papers_keep_their_order_where_the_first_row_has_gaps(report, tmp_path):
    write_markdown(report | {"published": published_rows("jova-table1")}, tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| Model | LSE-C | WER | FD | KL | CS | CE | CU | PC | PQ | MS | AS | ID |" in written
    assert (
        "| FantasyTalking (given the audio) | 3.10 | – | – | – | – | – | – | – | – | 0.22 | 0.44 | 0.87 |" in written
    )


def test_negative_numbers_keep_their_signs_apart(report, tmp_path):
    entry = report["summary"]["all"]["LSE-C"] | {"mean": -2.5, "interval": [-3.0, -2.0]}
    write_markdown(report | {"summary": {"all": report["summary"]["all"] | {"LSE-C": entry}}}, tmp_path / "report.md")
    assert "| all | -2.500 | -3.000 to -2.000 | 3/4 |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_local_measures_never_stand_beside_papers(report, tmp_path):
    local = report | {"metrics": [metric | {"local": True} for metric in report["metrics"]]}
    write_markdown(local, tmp_path / "report.md")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "no number here compares with one that a paper prints" in written.replace("\\", "")
    assert "Klear" not in written and "0.65" not in written


def test_the_same_report_gives_the_same_page(page, report, tmp_path):
    write_html(report, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_clips_that_are_gone_leave_a_note_and_metrics_without_values_a_dash(report, tmp_path):
    clips = [clip | {"file": str(tmp_path / "gone.mp4")} for clip in report["clips"][:2]]
    nothing = {name: entry | {"mean": None, "n_used": 0} for name, entry in report["summary"]["all"].items()}
    write_html(report | {"clips": clips, "summary": {"all": nothing}}, tmp_path / "report.html")
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "no image: the clip cannot be read any more" in text and "LSE-C ↑ s3fd50 – [5.000 to 8.000] · 0/4" in text


def test_a_page_is_not_written_over_a_clip(report):
    with pytest.raises(ValueError, match="is the clip"):
        write_html(report, report["clips"][0]["file"])


def test_other_files_are_refused(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    assert load_report(path) == report
    path.write_text(json.dumps({"format": "diffusers-jova score 99"}), encoding="utf-8")
    with pytest.raises(ValueError, match="is not a report of `score`.*make it again"):
        load_report(path)
