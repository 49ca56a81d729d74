# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Every direction with one model: what a call is given of its clip stays as it is, the rest is made.

Two streams with a noise level each make every direction one call: what is given stands at sigma 0, what is asked for
starts at sigma 1 (UniDiffuser, arXiv:2303.06555). `Given` reads the arguments `audio`, `video`, `keep` and `retake`;
`GivenLatents` is the same as latents and masks, made once before the loop.

B batch, C channels, F latent frames, H W latent rows and columns, A audio latents, M video frames per latent frame
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging

from ..latents import exact_frame_rate, nearest_num_frames, num_latent_frames
from .given_media import GivenClip, Recording, given_clips, join_recordings, nearest_to_recording, read_recordings
from .inputs import MODALITIES, CallSettings, named_modalities
from .seams import offset_from_given


logger = logging.get_logger(__name__)

LATENTS = {"video": "latents", "audio": "audio_latents"}

# A span of time that is made, in seconds: from, to.
Span = tuple[Fraction, Fraction | float]
EVERYTHING: Span = (Fraction(0), math.inf)
NOTHING: Span = (Fraction(0), Fraction(0))


def seconds(time_s: float) -> Fraction:
    """Return the number of seconds that was written: 0.24 is six frames of 25 a second, and not a little less."""
    return Fraction(time_s).limit_denominator(10**6)


@dataclass(frozen=True)
class Given:
    """What a call is given of its clip.

    Attributes:
        recording: Its audio, None where all of it is made.
        clips: Its frames, None where all of them are made.
        made: The span that is made of each modality that the clip has.
        sets_length: What the length of the clip comes from where `num_frames` is None: "audio", "video" or None.
    """

    recording: Recording | None
    clips: list[GivenClip] | None
    made: dict[str, Span]
    sets_length: str | None

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "Given | None":
        """Return what a call with `arguments` is given, None where it is given nothing. Recordings are read here.

        Raises:
            ValueError: If arguments contradict each other, or media cannot be used.
        """
        audio, video, keep, retake = (arguments[name] for name in ("audio", "video", "keep", "retake"))
        check_directions(arguments)
        if audio is None and video is None:
            return None
        modalities = named_modalities(arguments["modalities"])
        spans = made_spans(audio is not None, video is not None, keep, retake)
        made = {modality: span for modality, span in spans.items() if modality in modalities}
        clips = given_clips(video) if video is not None else None
        recording = None
        if audio is not None:
            recording = read_recordings(audio, arguments["audio_sampling_rate"])
        elif made.get("audio", EVERYTHING) != EVERYTHING:
            duration_s = made["audio"][0] if keep is not None else None
            recording = join_recordings([clip.recording(duration_s) for clip in clips])
        sets_length = "video" if retake is not None else "audio" if audio is not None else None
        return cls(recording, clips, made, sets_length)

    @property
    def whole(self) -> tuple[str, ...]:
        """The modalities that are given whole, and come out as they were given."""
        return tuple(modality for modality, span in self.made.items() if span == NOTHING)

    def num_frames(
        self, frame_rate: float | Fraction, temporal_compression: int, default: int | None = None
    ) -> int | None:
        """Return how long the clip is by what is given: the nearest length that the video VAE allows, or `default`.

        The audio may be cut or padded by half a latent frame. A clip's frames are only cut.
        """
        frame_rate = exact_frame_rate(frame_rate)
        if self.sets_length is None:
            given = min(clip.num_frames(frame_rate) for clip in self.clips)
            if default is not None and "video" in self.whole and given > default:
                logger.warning(
                    f"`video` has {given} frames, and the checkpoint makes {default}: the rest is cut. Set "
                    "`num_frames` to use more of them."
                )
            return default
        if self.sets_length == "video":
            return nearest_num_frames(min(clip.num_frames(frame_rate) for clip in self.clips), temporal_compression)[0]
        return nearest_to_recording(self.recording, frame_rate, temporal_compression)

    def check(self, settings: CallSettings, num_prompts: int, max_latent_frames: int | None, compression: int) -> None:
        """Check that what is given fits the clip that is made.

        Args:
            max_latent_frames: The most that the transformer has learned to place; None where there is no limit.
            compression: M.
        """
        frame_rate = exact_frame_rate(settings.frame_rate)
        duration_s = settings.num_frames / frame_rate
        for name, number in (
            ("recordings", len(self.recording.samples) if self.recording is not None else 1),
            ("clips", len(self.clips) if self.clips is not None else 1),
        ):
            if number not in (1, num_prompts):
                raise ValueError(f"Got {number} {name} for {num_prompts} prompts: pass one, or one per prompt.")
        if "audio" in self.whole and self.recording.duration_s < 1 / frame_rate:
            raise ValueError(
                f"`audio` is too short: {float(self.recording.duration_s):.3f} s, less than the "
                f"{float(1 / frame_rate):.3f} s of one frame."
            )
        num_latents = num_latent_frames(settings.num_frames, compression)
        if "audio" in self.whole and max_latent_frames is not None and num_latents > max_latent_frames:
            raise ValueError(
                f"`audio` is too long for one piece: {float(duration_s):.1f} s are {settings.num_frames} frames, "
                f"{num_latents} latent frames, and this transformer has learned to place {max_latent_frames}. "
                "Make it window by window with `window_num_frames`, or set `num_frames` to cut it."
            )
        for modality, (start_s, end_s) in self.made.items():
            is_span = (start_s, end_s) not in (EVERYTHING, NOTHING)
            if end_s == math.inf and 0 < start_s < 1 / frame_rate:
                raise ValueError(
                    f"`keep={float(start_s):g}` is less than the {1 / float(frame_rate):g} s of one frame."
                )
            end_s = duration_s if end_s == math.inf else end_s
            if is_span and not (start_s < end_s <= duration_s):
                raise ValueError(
                    f"What is made of the {modality} would be {float(start_s):g} s to {float(end_s):g} s of a clip of "
                    f"{float(duration_s):g} s ({settings.num_frames} frames at {float(frame_rate):g} frames/s). "
                    "`keep` and `retake` must lie inside of the clip; `num_frames` sets its length."
                )

    def masks(
        self, lengths: Mapping[str, int], frame_rate: float | Fraction, audio_latent_rate: float, compression: int
    ) -> dict[str, torch.Tensor]:
        """Return which latent frames (F,) and which audio latents (A,) are given, as bool, by name of the latents.

        One is given if no part of its time is made. Latent frame 0 is video frame 0, the others are M frames each.

        Args:
            lengths: F and A, by name of the latents.
            frame_rate: Video frames per second.
            audio_latent_rate: Audio latents per second.
            compression: M.
        """
        frame_rate = exact_frame_rate(frame_rate)
        audio_latent_rate = Fraction(float(audio_latent_rate)).limit_denominator(10**6)
        edges: dict[str, Callable[[int], Fraction]] = {  # when latent k begins, in seconds
            "latents": lambda k: max(compression * (k - 1) + 1, 0) / frame_rate,
            "audio_latents": lambda k: k / audio_latent_rate,
        }
        masks = {}
        for modality, (start_s, end_s) in self.made.items():
            name = LATENTS[modality]
            begins = edges[name]
            made = [begins(k) < end_s and begins(k + 1) > start_s for k in range(lengths[name])]
            masks[name] = ~torch.tensor(made)
        return masks

    def frames(self, settings: CallSettings, num_frames: int) -> np.ndarray:
        """Return the first frames of the clips, `(R, num_frames, height, width, 3)` uint8."""
        frame_rate, size = exact_frame_rate(settings.frame_rate), (settings.height, settings.width)
        return np.stack([clip.frames(frame_rate, num_frames, *size) for clip in self.clips])


@dataclass(frozen=True)
class GivenLatents:
    """What is given, as latents. By name, "latents" and "audio_latents", where any of the modality is given.

    Attributes:
        clean: `(B, C, F, H, W)` and `(B, C, A)` on the transformer's scale; where it is not given, any values.
        is_given: `(F,)` and `(A,)` bool.
        noise: Like `clean`: what the given part is noised with.
        condition_mode: "noised": the given part has the noise level of the rest. "clean": it has none, and timestep 0,
            but for a part of the video, whose frames have one timestep for all. Which one is right depends on how the
            transformer was trained.
        pixels: `(R, 3, num_frames, height, width)` in [-1, 1], the image, or the clips up to their last frame that is
            given; None where nothing of the video is.
        has_frame_timesteps: Whether each latent frame has a timestep of its own: those that are given stand clean, at
            timestep 0, whatever the mode (a transformer whose `condition_fill` is "noisy").
    """

    clean: dict[str, torch.Tensor]
    is_given: dict[str, torch.Tensor]
    noise: dict[str, torch.Tensor]
    condition_mode: str
    pixels: torch.Tensor | None = None
    has_frame_timesteps: bool = False

    @functools.cached_property  # not at every step, since the host waits for the masks' values
    def whole(self) -> tuple[str, ...]:
        """The names of the latents that are given whole."""
        return tuple(name for name, is_given in self.is_given.items() if is_given.all())

    @functools.cached_property
    def made_frames(self) -> tuple[int, int] | None:
        """The first and the last latent frame that is made, where some are and others are given."""
        is_given = self.is_given.get(LATENTS["video"])
        if is_given is None or is_given.all():
            return None
        made = (~is_given).nonzero().flatten().tolist()
        return made[0], made[-1]

    def stands_clean(self, name: str) -> bool:
        if name == LATENTS["video"] and self.has_frame_timesteps:
            return name in self.clean
        is_able = name in self.whole or (name == LATENTS["audio"] and name in self.clean)
        return self.condition_mode == "clean" and is_able

    def at(self, tensors: dict[str, Any], sigma: torch.Tensor | float) -> dict[str, Any]:
        """Return `tensors` with the given part at noise level `sigma`: (1 - sigma) · clean + sigma · noise."""
        replaced = {}
        for name, clean in self.clean.items():
            noisy = clean if self.stands_clean(name) else (1 - sigma) * clean + sigma * self.noise[name]
            is_given = self.is_given[name].reshape((-1,) + (1,) * (clean.ndim - 3))  # (F, 1, 1) or (A,)
            replaced[name] = torch.where(is_given, noisy, tensors[name])
        return tensors | replaced

    def go_on(
        self, velocities: dict[str, torch.Tensor], tensors: dict[str, Any], sigma: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the velocities with which a video goes on from the frames that are given: see `offset_from_given`.

        The offset is added to x - sigma · v, and later steps draw anew what moves. Audio, and a video of which nothing
        or everything is given, keep theirs; so does a video whose frames have timesteps of their own, as in Wan.
        """
        name = LATENTS["video"]
        if self.made_frames is None or name not in velocities or self.has_frame_timesteps:
            return velocities
        velocity = velocities[name]
        expected = tensors[name] - sigma * velocity
        offset = offset_from_given(expected, self.clean[name], *self.made_frames)
        # a noise level of 0 among a caller's own ones moves nothing, and must not make NaN either
        return velocities | {name: velocity - offset / sigma.clamp(min=1e-6)}

    def timesteps(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the timesteps (1,) or (1, F) of the video, and (1,) or (1, A) of the audio, where the rest is at
        `timestep`."""
        timesteps = {name: timestep.reshape(1) for name in LATENTS.values()}
        for name in filter(self.stands_clean, timesteps):
            is_given = self.is_given[name]
            timesteps[name] = (
                torch.zeros_like(timesteps[name]) if name in self.whole else torch.where(is_given, 0, timestep)[None]
            )
        return timesteps["latents"], timesteps["audio_latents"]


def check_directions(arguments: Mapping[str, Any]) -> None:
    """Check that `audio`, `video`, `keep` and `retake` do not contradict each other, the image or the modalities."""
    audio, video, keep, retake = (arguments[name] is not None for name in ("audio", "video", "keep", "retake"))
    modalities = named_modalities(arguments["modalities"])
    if arguments["audio_sampling_rate"] is not None and not audio:
        raise ValueError("`audio_sampling_rate` is the rate of `audio`, which was not given.")
    if keep and retake:
        raise ValueError("`keep` and `retake` were both given: keep the beginning, or make a span anew.")
    if (keep or retake) and not video:
        raise ValueError(f"`{'keep' if keep else 'retake'}` is about a clip: give it as `video`.")
    if audio and video and not (keep or retake):
        raise ValueError(
            "`audio` and `video` were both given whole: nothing is left to make. Leave one of them out, or say with "
            "`keep` or `retake` what of the video is made."
        )
    if audio and "video" not in modalities:
        raise ValueError(
            f"`audio` was given, and `modalities={modalities}` asks for nothing but audio: nothing is left to make. "
            "Add 'video', or leave out `audio`."
        )
    if (audio and "audio" not in modalities) or (video and "video" not in modalities):
        raise ValueError(
            f"`{'audio' if audio else 'video'}` was given, but `modalities={modalities}` leaves it out. "
            "Use both modalities."
        )
    if video and not (keep or retake) and "audio" not in modalities:
        raise ValueError(
            f"`video` was given whole, and `modalities={modalities}` asks for nothing else: nothing is left to make. "
            "Add 'audio', or say with `keep` or `retake` what of the video is made."
        )
    if retake and not set(_read_retake(arguments["retake"])[1]) & set(modalities):
        raise ValueError(f"`retake={arguments['retake']}` asks for nothing of `modalities={modalities}`.")
    if video and arguments["image"] is not None:
        raise ValueError("`image` is the first frame, and so is the first frame of `video`: leave out one of them.")


def made_spans(audio: bool, video: bool, keep: float | None, retake: tuple | None) -> dict[str, Span]:
    """Return the span of each modality that is made.

    Args:
        audio, video: Whether they are given.
        keep: Seconds of the beginning that are kept.
        retake: `(start_s, end_s)`, or with a third entry: "video", "audio" or both.
    """
    made: dict[str, Span] = {"video": EVERYTHING, "audio": EVERYTHING}
    if keep is not None:
        if not (keep > 0 and math.isfinite(keep)):
            raise ValueError(f"`keep` must be a number of seconds above 0, got {keep}.")
        made = dict.fromkeys(made, (seconds(keep), math.inf))
    elif retake is not None:
        span, modalities = _read_retake(retake)
        made = {modality: span if modality in modalities else NOTHING for modality in MODALITIES}
        if audio and "audio" in modalities:
            raise ValueError(
                "`audio` is given whole, and `retake` asks for the audio anew: say `retake=(start_s, end_s, 'video')`,"
                " or leave out `audio`."
            )
    elif video:
        made["video"] = NOTHING
    if audio:
        made["audio"] = NOTHING
    return made


def _read_retake(retake: tuple) -> tuple[Span, tuple[str, ...]]:
    """Return the span of `retake`, and the modalities that are made anew in it."""
    if not isinstance(retake, list | tuple) or len(retake) not in (2, 3):
        raise ValueError(f"`retake` must be (start_s, end_s) or (start_s, end_s, modalities), got {retake!r}.")
    start_s, end_s, *modalities = retake
    modalities = named_modalities(modalities[0] if modalities else MODALITIES)
    if not modalities or not set(modalities) <= set(MODALITIES):
        raise ValueError(f"`retake` must name one or both of {MODALITIES}, got {modalities}.")
    if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s):
        raise ValueError(f"`retake` must go from 0 s or later to a later time, got {start_s} s to {end_s} s.")
    return (seconds(start_s), seconds(end_s)), modalities


def check_encoder(model: Any, name: str) -> None:
    """Check that an autoencoder, the component `name`, has the half that reads what is given."""
    encoder = getattr(model, "encoder", None) or getattr(getattr(model, "vae", None), "encoder", None)
    if encoder is None or any(parameter.is_meta for parameter in encoder.parameters()):
        modality = "audio" if name == "audio_vae" else "video"
        raise ValueError(
            f"The {modality} that is given must be encoded, and the pipeline's `{name}` has no weights of its encoder."
            " Load one that has them."
        )
