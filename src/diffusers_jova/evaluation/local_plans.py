# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The profile `local`: measures that need no published weights, for CI and for users without them; of no paper.

What listens and looks is imported where it is loaded: pocketsphinx, dlib and scikit-image need not be installed.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from .clips import Subject
from .loudness import SAMPLING_RATE, measure_loudness
from .measurement import Measurement, Status
from .metrics import metric_named
from .passes import Findings, Network, Pass, Plan, features, first_problem
from .prompt_file import Prompt


def _load_landmarks(weights, device):
    from ..faces import DlibFaceDetector, find_landmarks_file

    return DlibFaceDetector(find_landmarks_file())


def _load_face_network(weights, device):
    from .likeness import find_face_network

    return find_face_network()


def _load_listener(variant: str, weights, device):
    from .words import DIGITS, WordListener

    return WordListener(DIGITS if variant == "digits" else None)


def _load_aligner(weights, device):
    from .phones import PhoneAligner

    return PhoneAligner()


# --- what they measure in a clip ---


def _find_landmarks(network, clip: Subject, findings: Findings) -> Measurement:
    from .lips import find_landmarks

    return features(landmarks=find_landmarks(clip.frames, network))


def _face_coverage(network, clip: Subject, findings: Findings) -> Measurement:
    from .lips import measure_face_coverage

    return measure_face_coverage(findings[LANDMARKS.name].features["landmarks"])


def _lips_by_loudness(network, clip: Subject, findings: Findings) -> Measurement:
    from .lips import measure_lips_by_loudness

    landmarks = findings[LANDMARKS.name].features["landmarks"]
    return measure_lips_by_loudness(landmarks, clip.frame_rate, clip.audio(SAMPLING_RATE))


def _lips_by_phones(network, clip: Subject, findings: Findings) -> Measurement:
    from .phones import measure_lips_by_phones

    if clip.prompt.language != "en":
        return NOT_ENGLISH
    landmarks = findings[LANDMARKS.name].features["landmarks"]
    return measure_lips_by_phones(
        network, landmarks, clip.frame_rate, clip.prompt.speech_text, clip.audio(SAMPLING_RATE)
    )


def _spoken_words(network, clip: Subject, findings: Findings) -> Measurement:
    from .words import measure_spoken_words

    if clip.prompt.language != "en":
        return NOT_ENGLISH
    return measure_spoken_words(network, clip.prompt.speech_text, clip.audio(SAMPLING_RATE))


def _describe_clip(network, clip: Subject, findings: Findings) -> Measurement:
    from .likeness import describe_clip

    return features(faces=describe_clip(clip.frames, network))


def _describe_image(network, clip: Subject, findings: Findings) -> Measurement:
    from .likeness import describe_clip

    if clip.image is None:
        return Measurement(Status.NO_REFERENCE)
    return features(faces=describe_clip(clip.image[None], network))


def _motion(network, clip: Subject, findings: Findings) -> Measurement:
    from .picture import measure_motion

    return measure_motion(clip.frames, clip.frame_rate)


def _sharpness(network, clip: Subject, findings: Findings) -> Measurement:
    from .picture import measure_sharpness

    return measure_sharpness(clip.frames)


def _loudness(network, clip: Subject, findings: Findings) -> Measurement:
    return measure_loudness(clip.audio(SAMPLING_RATE))


NOT_ENGLISH = Measurement(Status.NO_TEXT, details={"reason": "pocketsphinx's model here knows English only"})
DLIB = ("dlib", "face_recognition_models")
NUMBERS = Network("arithmetic")
PICTURES = Network("scikit-image", packages=("skimage",))
ALIGNER = Network("pocketsphinx (phones)", _load_aligner, packages=("pocketsphinx", "jiwer"))
FACE_NETWORK = Network("dlib's face network", _load_face_network, packages=DLIB)
LANDMARKS = Pass(
    "local-landmarks", Network("dlib's landmarks", _load_landmarks, packages=DLIB), _find_landmarks, ("frames",)
)


# --- plans ---


def _words_plan(variant: str, options: Any) -> Plan:
    packages = ("pocketsphinx", "jiwer")
    network = Network(f"pocketsphinx ({variant})", partial(_load_listener, variant), packages=packages)
    heard = Pass(f"local-words-{variant}", network, _spoken_words, ("audio", "speech_text", "language"))
    return Plan(metric_named("Words"), variant, (heard,), remarks=_word_remarks)


def _word_remarks(measured: Sequence[Measurement]) -> list[str]:
    errors, words = (sum(item.details[name] for item in measured) for name in ("errors", "words"))
    return [f"errors over the words of all clips {errors / words:.4f}"]


def _lips_remarks(measured: Sequence[Measurement]) -> list[str]:
    late = sum(item.details["lag"] > 0 for item in measured)
    early = sum(item.details["lag"] < 0 for item in measured)
    return [f"lips late in {late} clips, early in {early}"]


def _likeness_plan(variant: str, options: Any) -> Plan:
    passes = (
        Pass("local-faces-in-frames", FACE_NETWORK, _describe_clip, ("frames",)),
        Pass("local-face-in-image", FACE_NETWORK, _describe_image, ("image",)),
    )

    def combine(prompt: Prompt, findings: Findings) -> Measurement:
        from .likeness import measure_likeness

        if problem := first_problem(list(findings.values())):
            return problem
        return measure_likeness(*(findings[each.name].features["faces"] for each in passes))

    return Plan(metric_named("Likeness"), variant, passes, combine)


def _plan(name: str, each: Pass, **settings: Any):
    return lambda variant, options: Plan(metric_named(name), variant, (each,), **settings)


LOCAL_PLANS = {
    "Words": _words_plan,
    "Lips-phones": _plan(
        "Lips-phones",
        Pass(
            "local-lips-phones",
            ALIGNER,
            _lips_by_phones,
            ("frames", "audio", "speech_text", "language"),
            after=(LANDMARKS,),
        ),
        remarks=_lips_remarks,
    ),
    "Lips-loudness": _plan(
        "Lips-loudness",
        Pass("local-lips-loudness", NUMBERS, _lips_by_loudness, ("frames", "audio"), after=(LANDMARKS,)),
        remarks=_lips_remarks,
    ),
    "Faces": _plan("Faces", Pass("local-faces", NUMBERS, _face_coverage, ("frames",), after=(LANDMARKS,))),
    "Likeness": _likeness_plan,
    "Motion": _plan("Motion", Pass("local-motion", PICTURES, _motion, ("frames",))),
    "Sharpness": _plan("Sharpness", Pass("local-sharpness", PICTURES, _sharpness, ("frames",))),
    "Loudness": _plan("Loudness", Pass("local-loudness", NUMBERS, _loudness, ("audio",))),
}
