# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Names are names and a clip is one file, whatever FFmpeg would make of them."""

import os

import numpy as np
import pytest
from PIL import Image

from diffusers_jova.media import iter_frames, probe_media, read_audio, read_video, write_video, write_wav


NAMES = [
    "out:1.mp4",
    "Interview: Anna.mp4",
    "concat:a|b.mp4",
    "http:x.mp4",
    "file:x.mp4",
    "data:,x.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "-i.mp4",
    "%03d.mp4",
    "a*?[b].mp4",
    "new\nline.mp4",
    os.fsdecode(b"caf\xe9.mp4"),
]


def grey_clip(path):
    return write_video(path, np.full((5, 48, 64, 3), 99, np.uint8), 25, np.full(3200, 0.1), 16000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_relative", [False, True])
def test_every_name_of_a_file_can_be_written_and_read(name, is_relative, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = grey_clip(name if is_relative else tmp_path / name)
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)]
    assert read_video(path).frames.mean() == pytest.approx(99, abs=2)
    assert len(list(iter_frames(path))) == 5 and read_audio(path)[0].shape == (1, 3200)
    assert probe_media(path).has_audio
    sound = write_wav(f"{name}.wav", np.zeros(800), 16000)
    assert read_audio(sound)[0].shape == (1, 800)


@pytest.mark.parametrize(
    "name, content",
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("list.mp4", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("stream.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
        ("stream.mpd", '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n'),
        ("words.srt", "1\n00:00:00,000 --> 00:00:01,000\nHello\n"),
        ("words.mp4", "1\n00:00:00,000 --> 00:00:01,000\nHello\n"),
        ("tags.mp4", ";FFMETADATA1\ntitle=x\n"),
        ("art.ans", "plain text\n" * 50),
    ],
)
@pytest.mark.parametrize("read", [read_video, probe_media, read_audio, iter_frames])
def test_what_names_other_files_or_is_text_is_refused_by_name(read, name, content, tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4")
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_text(content.format(clip=clip))
    with pytest.raises(ValueError, match=name):
        read(path)


def test_images_are_not_clips(tmp_path):
    for name in ("image.png", "image.mp4", "image.jpg", "image001.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name, format="JPEG" if name.endswith("jpg") else "PNG")
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name)


def test_a_folder_is_not_a_clip(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_video(tmp_path)
