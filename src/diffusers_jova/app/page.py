# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The page itself, with Gradio: fields, clip, gallery, copies."""

import functools
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Any

import gradio as gr

from ..cli.pipeline import NUMBERS, TEXTS
from ..command import describe, is_foreseeable
from ..text import markdown
from .clips import ClipMaker, MadeClip, Stopped
from .examples import read_examples
from .sessions import Session, Sessions
from .space import on_gpu


logger = logging.getLogger(__name__)

MAX_SEED = 2**31 - 1  # of those that the page draws
SIZES = ("height", "width", "num_frames", "frame_rate", "num_inference_steps")
SCALES = tuple(name for name in NUMBERS if name not in SIZES)
RETAKES = {"video and audio": (), "the video": ("video",), "the audio": ("audio",)}
CACHE = (600, 7200)  # s: every ten minutes, uploads and copies of clips that are older than two hours are removed
QUEUE_SIZE = 20  # who comes then is told to try again

INTRODUCTION = """\
# {title}

Say what is seen, what is heard and which words are spoken; a video with its audio comes out, whose file says that it
is AI-generated. Make clips of people only if they agreed.
"""
UNFORESEEN = (
    "This is a mistake of ours: the log of the app shows where. Please report it, with what you had filled in."
)


def make_page(maker: ClipMaker, folder: Path) -> gr.Blocks:
    """Return the page, to be launched with `launch_options`.

    Args:
        maker: Makes the clips.
        folder: Of `sessions.temporary_folder`.
    """
    sessions = Sessions(folder / "clips")
    make = on_gpu(functools.partial(make_clip, maker, folder))
    title = Path(maker.model).name
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=CACHE) as page:
        gr.Markdown(INTRODUCTION.format(title=markdown(title)))
        with gr.Row():
            with gr.Column():
                fields = make_fields(maker)
                with gr.Row():
                    start = gr.Button("Generate", variant="primary")
                    stop = gr.Button("Stop", variant="stop", interactive=False)
                add_examples(maker, fields)
            with gr.Column():
                clip_views = make_clip_views()
                gallery = gr.Gallery(
                    label="Clips of this session",
                    columns=3,
                    fit_columns=False,
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="gallery",
                )

        unchanged = [gr.skip() for _ in range(len(clip_views) + 1)]

        def begin(request: gr.Request) -> tuple[dict, dict]:
            sessions.of(request.session_hash).stop_file.unlink(missing_ok=True)
            return gr.update(interactive=False), gr.update(interactive=True)

        def generate(values: dict, request: gr.Request, progress=gr.Progress()) -> list:  # noqa: B008 Gradio's way
            session = sessions.of(request.session_hash)
            try:
                clip = make(values_of(fields, values), session.next_path(), session.stop_file, progress)
            except gr.Error as error:  # raised, it would end the chain of events, and leave the buttons as they are
                gr.Warning(error.message, duration=None, title="Error")
                return unchanged
            if clip is None:
                gr.Info("Stopped: nothing was kept of this clip.")
                return unchanged
            session.clips.append(clip)
            return [*show_clip(clip), show_gallery(session)]

        def end() -> tuple[dict, dict]:
            return gr.update(interactive=True), gr.update(interactive=False)

        def ask_to_stop(request: gr.Request) -> None:
            sessions.of(request.session_hash).stop_file.touch()

        def select(event: gr.SelectData, request: gr.Request) -> list:
            return show_clip(sessions.of(request.session_hash).clips[event.index])

        def forget(request: gr.Request) -> None:
            sessions.forget(request.session_hash)

        private: dict[str, Any] = {"api_visibility": "private"}
        begun = start.click(begin, outputs=[start, stop], queue=False, **private)
        made = begun.then(
            generate,
            inputs=set(fields.values()),
            outputs=[*clip_views, gallery],
            concurrency_limit=1,
            show_progress_on=clip_views[0],
            **private,
        )
        made.then(end, outputs=[start, stop], queue=False, **private)
        stop.click(ask_to_stop, queue=False, **private)
        gallery.select(select, outputs=clip_views, queue=False, **private)
        page.unload(forget)
        if "lora" in fields:
            page.load(lambda: gr.update(choices=maker.loras()), outputs=fields["lora"], queue=False, **private)
    return page.queue(max_size=QUEUE_SIZE)


def launch_options(max_file_size_mb: float) -> dict[str, Any]:
    """Return how the page is launched, wherever it runs: nothing of the disk is shown but its own files."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none is fetched
    return {
        "max_file_size": int(max_file_size_mb * 1_000_000),
        "allowed_paths": [],
        "footer_links": ["settings"],
        "ssr_mode": False,
        "theme": gr.themes.Soft(**fonts),
    }


def make_clip(
    maker: ClipMaker, folder: Path, values: dict[str, Any], output: Path, stop_file: Path, progress: gr.Progress
) -> MadeClip | None:
    """Return the clip of `values`; None if it was stopped.

    Raises:
        gr.Error: With the words of the pipeline for what is wrong with `values`.
    """

    def say_step(step: int, num_steps: int) -> None:
        progress((step, num_steps), desc=f"Step {step} of {num_steps}")

    try:
        return maker.make(values, output, say_step, stop_file.exists)
    except Stopped:
        return None
    except Exception as error:
        if not is_foreseeable(error):
            logger.exception("A clip could not be made.")
            raise gr.Error(UNFORESEEN, print_exception=False) from error
        raise gr.Error(without_folders(describe(error), folder), duration=None, print_exception=False) from error


def without_folders(text: str, folder: Path) -> str:
    """Return the text with the names of files below `folder` alone: where they are is nothing that people know."""
    return re.sub(re.escape(f"{folder}{os.sep}") + r"(?:[^/\\`']+[/\\])*", "", text)


# --- fields ---


def make_fields(maker: ClipMaker) -> dict[str, gr.components.Component]:
    """Add the fields to the page and return them, by the names of `generate`'s flags."""
    config = maker.pipe.config
    has_audio = bool(maker.pipe.audio_sampling_rate)
    fields: dict[str, Any] = {}

    def add_text(name: str, label: str, info: str, **settings: Any) -> None:
        fields[name] = gr.Textbox(label=label, info=capitalise(info), elem_id=name, **settings)

    def add_number(name: str) -> None:  # as a text: Gradio's own field for numbers cannot be left blank
        default = config.get(name)
        add_text(name, name, NUMBERS[name][1], placeholder="" if default is None else f"{default:g}")

    add_text("prompt", "Prompt", TEXTS["prompt"], lines=2)
    if has_audio:
        add_text("audio_prompt", "Audio prompt", TEXTS["audio_prompt"])
        add_text("transcript", "Transcript", TEXTS["transcript"])
    with gr.Row():
        image = gr.Image(
            label="Image, the first frame",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=220,
            elem_id="image",
        )
        image.preprocess = path_of  # Gradio would open it first, and have words of its own for what is not an image
        fields["image"] = image
        if has_audio:
            fields["audio"] = gr.Audio(
                label="Recording", type="filepath", sources=["upload", "microphone"], elem_id="audio"
            )
    add_text("seed", "seed", "of the noise; blank for another one each time", value="0")
    with gr.Accordion("Guidance", open=False):
        for name in SCALES:
            add_number(name)
        add_text("negative_prompt", "Negative prompt", TEXTS["negative_prompt"])
        if has_audio:
            add_text("negative_audio_prompt", "Negative audio prompt", TEXTS["negative_audio_prompt"])
    with gr.Accordion("Size, length and steps", open=False):
        for name in SIZES:
            add_number(name)
    with gr.Accordion("A clip that goes on, or is made anew in a part", open=False):
        fields["video"] = gr.Video(label="Clip", sources=["upload"], include_audio=True, height=220, elem_id="video")
        gr.Markdown("Alone it gets audio that is made for it.")
        add_text("keep", "keep", "seconds of it that are kept; what follows is made")
        with gr.Row():
            add_text("retake_start", "retake from", "seconds")
            add_text("retake_end", "retake to", "seconds")
            fields["retake_of"] = gr.Radio(list(RETAKES), value=next(iter(RETAKES)), label="What is made anew there")
    if maker.lora_dir is not None:
        with gr.Accordion("LoRA", open=True):
            fields["lora"] = gr.Dropdown(maker.loras(), value=None, label="LoRA", elem_id="lora")
            fields["lora_scale"] = gr.Slider(0.0, 2.0, value=1.0, step=0.05, label="lora_scale", info="Its strength")
    return fields


def path_of(upload: Any) -> str | None:
    """Return the path of an upload as Gradio describes it; None for none."""
    return upload and upload.path


def values_of(fields: dict[str, Any], values: dict[Any, Any]) -> dict[str, Any]:
    """Return what the fields hold by the names of `generate`'s flags."""
    found = {name: values[component] for name, component in fields.items()}
    start_s, end_s, what = (found.pop(f"retake_{name}") for name in ("start", "end", "of"))
    if start_s or end_s:
        found["retake"] = [start_s or "", end_s or "", *RETAKES[what]]
    if not (found["seed"] or "").strip():
        found["seed"] = str(secrets.randbelow(MAX_SEED))
    return found


def add_examples(maker: ClipMaker, fields: dict[str, Any]) -> None:
    """Add the examples that come with the checkpoint, if there are any."""
    examples = read_examples(maker.model)
    names = [name for name in ("prompt", "audio_prompt", "transcript", "image") if name in fields]
    if examples:
        rows = [[example.get(name) for name in names] for example in examples]
        gr.Examples(rows, [fields[name] for name in names], label="Examples", api_visibility="private")


def capitalise(text: str) -> str:
    return text[0].upper() + text[1:]


# --- clips ---


def make_clip_views() -> list[gr.components.Component]:
    """Add what shows a clip, in the order of `show_clip`."""
    views = [
        gr.Video(label="Clip", interactive=False, autoplay=True, height=360, buttons=[], elem_id="clip"),
        gr.Markdown(elem_id="mark"),
        gr.Audio(label="Its audio", interactive=False, buttons=["download"], elem_id="clip_audio"),
        gr.DownloadButton("Download the clip", interactive=False, elem_id="download"),
    ]
    with gr.Tab("Copy as Python"):
        views.append(gr.Code(show_label=False, language="python", interactive=False, elem_id="python"))
    with gr.Tab("Copy as command"):
        views.append(gr.Code(show_label=False, language="shell", interactive=False, elem_id="command"))
    return views


def show_clip(clip: MadeClip) -> list[Any]:
    """Return what the views show of a clip."""
    download = gr.update(value=clip.path, interactive=True)
    return [clip.path, f"The file says: {markdown(clip.mark)}", clip.audio, download, clip.python, clip.command]


def show_gallery(session: Session) -> list[tuple[Path, str]]:
    """Return the clips of a session with their words, for the gallery."""
    return [(clip.path, f"{clip.path.stem}: {clip.words}") for clip in session.clips]
