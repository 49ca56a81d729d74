# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The paper's test of the mouth mask (Appendix A) on a clip."""

from drawn_faces import write_talking_clip
from plain_clips import needs_dlib, write_clip

from diffusers_jova.cli.dispatch import main


@needs_dlib
def test_mouth_mask_command_writes_the_figure_and_says_what_changed(run, model, clips, tmp_path, capsys):
    write_talking_clip(clips / "face.mp4", 5, seed=1)

    def command(video):
        flags = ["--video", str(video), "--model", str(model), "--output", str(tmp_path / "mouth.png")]
        return main(["validate-mouth-mask", *flags, "--device", "cpu"])

    assert command(clips / "face.mp4") == 0
    assert "inside the mouth" in capsys.readouterr().out
    assert (tmp_path / "mouth.png").is_file()
    write_clip(clips / "nobody.mp4", 5)
    assert command(clips / "nobody.mp4") == 2
    assert "No mouth was found" in capsys.readouterr().err
