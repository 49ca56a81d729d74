# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Each metric by each protocol: which networks pass over a clip, and how their findings become its values.

What the metrics are called and which protocols there are is in `metrics`; what `local` measures is in `local_plans`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..faces import DlibFaceDetector, find_landmarks_file
from ..headers import read_json
from . import aesthetics, audiobox, clap, cnn14, dinov3, lip_sync, maniqa, musiq, passt, raft
from .audio_input import is_silent
from .checkpoints import read_state_dict
from .clips import Subject
from .distributions import frechet, inception_score, mova_inception_score
from .insight_faces import load_insightface
from .local_plans import LOCAL_PLANS
from .measurement import Measurement, Status
from .metrics import metric_named
from .passes import REFERENCE, Findings, Network, Pass, Plan, features, first_problem, the_only
from .prompt_file import Prompt
from .s3fd import load_s3fd
from .shots import find_shots
from .syncnet import load_syncnet
from .word_errors import NORMALIZERS, Transcript, Whisper, error_rates, measure_words


LIP_SYNC_RATE = 25
SPEECH_RATE = 16000
ALL_CLASSES_RANK = 2049  # clips from which on a covariance of 2048 features can have its full rank


@dataclass(frozen=True)
class Options:
    """What a user may change about a protocol; None leaves it as the protocol has it.

    Attributes:
        min_track, faces: of LSE, see `LipSyncProtocol`.
        scenes: whether LSE ends tracks at cuts, as SyncNet's authors do; clips of a few seconds have none.
        wer_normalizer: of WER, see `word_errors.normalize`.
        wer_average: "macro", the mean over clips, or "micro", all errors over all words.
        spellings: British to American, for Whisper's normaliser.
        transcripts: what another recogniser heard, by the clip's name; WER then needs no network.
        as_frames: of each clip, that AS looks at; not comparable with any other source.
        id_reference: "image", or "first-frame" for clips that were made without an image.
        seed: of crops that are drawn.
    """

    min_track: int | None = None
    faces: str | None = None
    scenes: bool = False
    wer_normalizer: str | None = None
    wer_average: str = "macro"
    spellings: Mapping[str, str] | None = None
    transcripts: Mapping[str, str] | None = None
    as_frames: int | None = None
    id_reference: str = "image"
    seed: int = 0


def make_plans(variants: Mapping[str, str], options: Options = Options()) -> list[Plan]:
    """Return the plan of each metric, of `metrics.choose_variants`.

    Raises:
        ValueError: if a protocol needs an option that is not given.
    """
    return [PLANS[name](variant, options) for name, variant in variants.items()]


# --- LSE ---


def _lip_sync(variant: str, options: Options) -> Plan:
    protocol = lip_sync.PROTOCOLS[variant]
    changes: dict[str, Any] = {"min_track": options.min_track, "faces": options.faces}
    protocol = replace(protocol, **{name: value for name, value in changes.items() if value is not None})
    after = () if protocol.detector is None else (FACES[protocol.detector],)
    lips = Pass(
        f"lips-{variant}",
        SYNCNET,
        partial(_measure_lips, protocol, options.scenes),
        ("frames", "audio"),
        settings={"min_track": protocol.min_track, "faces": protocol.faces, "scenes": options.scenes},
        after=after,
    )
    return Plan(metric_named("LSE"), variant, (lips,), remarks=_lip_remarks)


def _measure_lips(
    protocol: lip_sync.LipSyncProtocol, scenes: bool, network, clip: Subject, findings: Findings
) -> Measurement:
    frames, boxes = clip.frames_at(LIP_SYNC_RATE), None
    if protocol.detector is not None:
        found = findings[FACES[protocol.detector].name].features
        boxes = np.split(found["boxes"], np.cumsum(found["counts"])[:-1])
    shots = find_shots(frames) if scenes else None
    return lip_sync.measure_lip_sync(network, frames, clip.audio(SPEECH_RATE), boxes, protocol, shots)


def _find_faces(detect_of: Callable[[Any], Callable], network, clip: Subject, findings: Findings) -> Measurement:
    boxes = lip_sync.find_faces(clip.frames_at(LIP_SYNC_RATE), detect_of(network))
    return features(boxes=np.concatenate(boxes), counts=[len(each) for each in boxes])


def _lip_remarks(measured: Sequence[Measurement]) -> list[str]:
    several = sum(item.details.get("tracks", 1) > 1 for item in measured)
    return [f"{several} clips have more than one face or track"] if several else []


SYNCNET = Network(
    "SyncNet",
    lambda weights, device: load_syncnet(read_state_dict(weights / "syncnet_v2.model")).to(device),
    ("syncnet_v2.model",),
)
FACES = {
    "s3fd": Pass(
        "faces-s3fd",
        Network(
            "S3FD",
            lambda weights, device: load_s3fd(read_state_dict(weights / "sfd_face.pth")).to(device),
            ("sfd_face.pth",),
        ),
        partial(_find_faces, lambda network: network.detect),
        ("frames",),
    ),
    "insightface": Pass(
        "faces-insightface",
        Network("insightface", load_insightface, ("insightface/",), ("insightface", "onnxruntime")),
        partial(_find_faces, lambda detect: detect),
        ("frames",),
    ),
    "dlib": Pass(
        "faces-dlib",
        Network("dlib", lambda weights, device: DlibFaceDetector(find_landmarks_file()), packages=("dlib",)),
        partial(_find_faces, lip_sync.detect_with_dlib),
        ("frames",),
    ),
}


# --- WER ---


def _words(variant: str, options: Options) -> Plan:
    if variant == "sensevoice" and options.transcripts is None:
        raise ValueError(
            "WER=sensevoice needs --transcripts: run SenseVoice with funasr, write a line "
            '{"id": ..., "text": ...} for each clip, and give that file; or take WER=whisper.'
        )
    normalizer = options.wer_normalizer or ("whisper" if variant == "whisper" else "lower")
    if normalizer not in NORMALIZERS:
        raise ValueError(f"The normaliser must be one of {', '.join(NORMALIZERS)}, got {normalizer!r}.")
    passes = () if options.transcripts is not None else (WHISPER_PASS,)
    micro = options.wer_average == "micro"
    return Plan(
        metric_named("WER"),
        variant,
        passes,
        combine=partial(_measure_words, normalizer, options),
        average="errors over words of all clips" if micro else "mean over clips",
        pooled=(lambda measured: {"WER": error_rates(measured).micro}) if micro else None,
        remarks=_word_remarks,
    )


def _hear(network: Whisper, clip: Subject, findings: Findings) -> Measurement:
    waveform = clip.audio(SPEECH_RATE)
    if is_silent(waveform):
        return Measurement(Status.SILENT)
    heard = network.transcribe(waveform, clip.prompt.language)
    return Measurement(Status.OK, details={"transcript": heard.text, "no_speech": heard.no_speech})


def _measure_words(normalizer: str, options: Options, prompt: Prompt, findings: Findings) -> Measurement:
    if not prompt.speech_text:
        return Measurement(Status.NO_TEXT)
    if options.transcripts is not None:
        text = options.transcripts.get(prompt.name, options.transcripts.get(prompt.id))
        if text is None:
            return Measurement(Status.ERROR, details={"reason": "the file of transcripts does not name this clip"})
        transcript = Transcript(text)
    else:
        found = findings[WHISPER_PASS.name]
        if found.status != Status.OK:
            return found
        transcript = Transcript(found.details["transcript"], found.details["no_speech"])
    return measure_words(prompt.speech_text, transcript, normalizer, prompt.language, options.spellings)


def _word_remarks(measured: Sequence[Measurement]) -> list[str]:
    rates = error_rates(measured)
    remarks = [f"mean over clips {rates.macro:.4f}, errors over words {rates.micro:.4f}"]
    if rates.num_above_one:
        remarks.append(f"WER above 1: {rates.num_above_one} clips")
    units = Counter(item.details["unit"] for item in measured)
    if units["character"]:
        remarks.append(f"characters are counted, not words (CER): {units['character']} clips")
    doubts = [item.details["no_speech"] for item in measured if item.details.get("no_speech") is not None]
    if doubts:
        remarks.append(f"Whisper takes for silence: {sum(doubt > 0.5 for doubt in doubts)} clips")
    return remarks


def read_spellings(weights: Path) -> dict[str, str] | None:
    """Return Whisper's British to American spellings, if they lie in the folder of weights."""
    path = weights / "whisper-large-v3" / "normalizer.json"
    return read_json(path) if path.is_file() else None


WHISPER = Network(
    "Whisper",
    lambda weights, device: Whisper.from_folder(weights / "whisper-large-v3", device),
    ("whisper-large-v3/",),
)
WHISPER_PASS = Pass("words-whisper", WHISPER, _hear, ("audio", "language"))


# --- CS and FD, by CLAP ---


def _load_clap(name: str, weights: Path, device: str):
    tokenizer = weights / "roberta-base"
    state_dict = read_state_dict(weights / name)
    return clap.load_clap(state_dict, tokenizer if tokenizer.is_dir() else None).to(device)


FUSION_FILE, MUSIC_FILE = "630k-audioset-fusion-best.pt", "music_speech_audioset_epoch_15_esc_89.98.pt"
CLAP_FUSION = Network("CLAP", partial(_load_clap, FUSION_FILE), (FUSION_FILE,))
CLAP_MUSIC = Network("CLAP (music and speech)", partial(_load_clap, MUSIC_FILE), (MUSIC_FILE,))
CLAP_UNFUSED = Network(
    "CLAP (unfused)",
    lambda weights, device: clap.load_clap_folder(weights / "clap-htsat-unfused").to(device),
    ("clap-htsat-unfused/",),
)
CLAP_NETWORKS = {"verse": CLAP_FUSION, "mova": CLAP_FUSION, "avb": CLAP_MUSIC, "javis": CLAP_UNFUSED}


def _embed_audio(protocol: clap.ClapProtocol, network, clip: Subject, findings: Findings) -> Measurement:
    embedding = clap.embed_clip(network, clip.audio(protocol.sampling_rate), protocol, clip.prompt.id)
    return Measurement(Status.SILENT) if embedding is None else features(embedding=embedding)


def _embed_text(field: str, network, clip: Subject, findings: Findings) -> Measurement:
    text = _text_of(clip.prompt, field)
    return Measurement(Status.NO_TEXT) if text is None else features(embedding=network.embed_texts([text])[0].cpu())


def _text_of(prompt: Prompt, field: str) -> str | None:
    if field == "prompt":
        return prompt.prompt or None
    return prompt.audio_prompt[0] if prompt.audio_prompt else None


def _clap_audio(protocol_name: str) -> Pass:
    protocol = clap.PROTOCOLS[protocol_name]
    run = partial(_embed_audio, protocol)
    network = CLAP_NETWORKS[protocol_name]
    # the id draws the parts of clips above 10 s
    return Pass(f"clap-audio-{protocol_name}", network, run, ("audio", "id"), on_reference=protocol_name == "verse")


def _similarity(variant: str, options: Options) -> Plan:
    name = variant.removesuffix("-nonempty")
    protocol, audio = clap.PROTOCOLS[name], _clap_audio(name)
    text = Pass(
        f"clap-text-{name}",
        audio.network,
        partial(_embed_text, protocol.text),
        (protocol.text,),
        files=() if name == "javis" else ("roberta-base/",),
    )

    def combine(prompt: Prompt, findings: Findings) -> Measurement:
        if variant == "verse-nonempty" and not prompt.audio_text:
            return Measurement(Status.NO_TEXT)
        if problem := first_problem([findings[text.name], findings[audio.name]]):
            return problem
        embeddings = [torch.from_numpy(findings[each.name].features["embedding"]) for each in (audio, text)]
        return clap.measure_similarity(*embeddings)

    metric = metric_named("CS")
    if protocol.text != "audio_prompt":
        metric = replace(metric, expects=(protocol.text,))
    elif variant == "verse-nonempty":
        metric = replace(metric, expects=("audio_text",))
    return Plan(metric, variant, (audio, text), combine, mean_of_sets=name == "mova")


def _pair_or_set_distance(variant: str, options: Options) -> Plan:
    metric = metric_named("FD")
    if variant == "clap-pair":
        audio = _clap_audio("verse")

        def combine(prompt: Prompt, findings: Findings) -> Measurement:
            reference = findings[audio.name + REFERENCE]
            if problem := first_problem([reference, findings[audio.name]]):
                return problem
            embeddings = (findings[audio.name], reference)
            return clap.measure_pair_distance(*(torch.from_numpy(e.features["embedding"]) for e in embeddings))

        return Plan(metric, variant, (audio,), combine)
    each, name = {
        "panns16k": (PANNS_16K, "features"),
        "panns32k": (PANNS_32K, "features"),
        "passt": (PASST_AVB, "features"),
        "clap-set": (_clap_audio("verse"), "embedding"),
    }[variant]

    def combine_set(prompt: Prompt, findings: Findings) -> Measurement:
        reference = findings[each.name + REFERENCE]
        if problem := first_problem([reference, findings[each.name]]):
            return problem
        return features(clip=findings[each.name].features[name], reference=reference.features[name])

    return Plan(
        metric,
        variant,
        (each,),
        combine_set,
        of_set=lambda measured: {"FD": frechet(*(_stacked(measured, part) for part in ("clip", "reference")))},
        average="Frechet distance of the set",
        remarks=_rank_remarks,
    )


def _stacked(measured: Sequence[Measurement], name: str) -> np.ndarray:
    return np.stack([item.features[name] for item in measured])


def _rank_remarks(measured: Sequence[Measurement]) -> list[str]:
    num_features = len(measured[0].features["clip"])
    if len(measured) > num_features:
        return []
    return [f"{len(measured)} clips for {num_features} features: the covariance lacks its full rank, FD is too large"]


# --- KL and IS, by PaSST and Cnn14 ---


def _hear_verse(network, clip: Subject, findings: Findings) -> Measurement:
    waveform = clip.audio(passt.SAMPLING_RATE)
    logits = passt.verse_logits(network, waveform)
    return Measurement(Status.SILENT) if logits is None else features(logits=logits)


def _hear_passt(network, clip: Subject, findings: Findings) -> Measurement:
    found = passt.av_benchmark_output(network, clip.waveform, clip.sampling_rate)
    return Measurement(Status.SILENT) if found is None else features(logits=found[0], features=found[1])


def _hear_panns(network, clip: Subject, findings: Findings) -> Measurement:
    found = cnn14.av_benchmark_output(network, clip.waveform, clip.sampling_rate)
    if found is None:
        return Measurement(Status.SILENT if is_silent(clip.waveform) else Status.SHORT)
    return features(logits=found["logits"], features=found["2048"])


def _hear_mova(network, clip: Subject, findings: Findings) -> Measurement:
    found = cnn14.mova_probabilities_of(network, clip.audio(network.sampling_rate))
    return Measurement(Status.SILENT) if found is None else features(probabilities=found)


def _load_cnn14(name: str, sampling_rate: int, weights: Path, device: str):
    return cnn14.load_cnn14(read_state_dict(weights / name), sampling_rate).to(device)


PASST_FILE = "passt-s-f128-p16-s10-ap.476-swa.pt"
PASST = Network(
    "PaSST", lambda weights, device: passt.load_passt(read_state_dict(weights / PASST_FILE)).to(device), (PASST_FILE,)
)
CNN14_FILES = {16000: "Cnn14_16k_mAP=0.438.pth", 32000: "Cnn14_mAP=0.431.pth"}
CNN14_16K, CNN14_32K = (
    Network(f"Cnn14 at {rate // 1000} kHz", partial(_load_cnn14, name, rate), (name,))
    for rate, name in CNN14_FILES.items()
)
PASST_VERSE = Pass("passt-verse", PASST, _hear_verse, ("audio",), on_reference=True)
PASST_AVB = Pass("passt-avb", PASST, _hear_passt, ("audio",), on_reference=True)
PANNS_16K = Pass("panns-16k", CNN14_16K, _hear_panns, ("audio",), on_reference=True)
PANNS_32K = Pass("panns-32k", CNN14_32K, _hear_panns, ("audio",), on_reference=True)
PANNS_MOVA = Pass("panns-mova", CNN14_32K, _hear_mova, ("audio",))


def _classes(variant: str, options: Options) -> Plan:
    each = {"passt-verse": PASST_VERSE, "passt-avb": PASST_AVB, "panns-avb": PANNS_16K}[variant]

    def combine(prompt: Prompt, findings: Findings) -> Measurement:
        reference = findings[each.name + REFERENCE]
        if problem := first_problem([reference, findings[each.name]]):
            return problem
        logits, wanted = (torch.from_numpy(e.features["logits"]) for e in (findings[each.name], reference))
        return passt.measure_kl(logits, wanted, variant)

    return Plan(metric_named("KL"), variant, (each,), combine)


def _inception(variant: str, options: Options) -> Plan:
    if variant == "panns-mova":
        each, of_set = PANNS_MOVA, lambda measured: {"IS": mova_inception_score(_stacked(measured, "probabilities"))}
    else:
        each = PASST_AVB if variant == "passt-avb" else PANNS_16K
        of_set = lambda measured: {"IS": inception_score(_stacked(measured, "logits"))[0]}  # noqa: E731
    plan = Plan(
        metric_named("IS"),
        variant,
        (replace(each, on_reference=False),),
        of_set=of_set,
        mean_of_sets=variant == "panns-mova",
        average="inception score of the set" + ("" if variant == "panns-mova" else ", mean of 10 splits"),
    )
    if variant == "panns-mova":
        return plan
    return replace(
        plan, remarks=lambda measured: [f"of {len(measured)} clips: no IS is above {-(-len(measured) // 10)}"]
    )


# --- CE, CU, PC, PQ ---


def _audio_aesthetics(variant: str, options: Options) -> Plan:
    def measure(network, clip: Subject, findings: Findings) -> Measurement:
        return audiobox.measure_audio_aesthetics(network, clip.waveform, clip.sampling_rate)

    network = Network(
        "AudioBox-Aesthetics",
        lambda weights, device: audiobox.load_audiobox(audiobox.read_audiobox(weights / "audiobox-aesthetics")).to(
            device
        ),
        ("audiobox-aesthetics/",),
    )
    return Plan(
        metric_named("AudioBox"), variant, (Pass("audiobox", network, measure, ("audio",)),), remarks=_level_remarks
    )


def _level_remarks(measured: Sequence[Measurement]) -> list[str]:
    levels = [item.details["level_dbfs"] for item in measured]
    return [f"loudness is not normalised and moves the scores: {np.mean(levels):.1f} dB of full scale on average"]


# --- MS ---


def _motion(variant: str, options: Options) -> Plan:
    protocol = "native" if variant == "native" else "verse"

    def measure(network, clip: Subject, findings: Findings) -> Measurement:
        return raft.measure_motion(network, clip.frames, clip.frame_rate, protocol)

    def combine(prompt: Prompt, findings: Findings) -> Measurement:
        found = the_only(prompt, findings)
        if variant != "per-second" or found.status != Status.OK:
            return found
        return replace(found, values=found.values | {"MS/s": found.details["px_per_s"]})

    network = Network(
        "RAFT",
        lambda weights, device: raft.load_raft(read_state_dict(weights / "raft-things.pth")).to(device),
        ("raft-things.pth",),
    )
    metric = metric_named("MS")
    if variant != "per-second":
        metric = replace(metric, columns=metric.columns[:1])
    return Plan(
        metric, variant, (Pass(f"motion-{protocol}", network, measure, ("frames",)),), combine, remarks=_size_remarks
    )


def _size_remarks(measured: Sequence[Measurement]) -> list[str]:
    sizes = Counter(
        f"{item.details['width']} x {item.details['height']} at {item.details['frame_rate']:g} frames/s"
        for item in measured
    )
    remarks = ["measured at " + ", ".join(f"{size} ({count} clips)" for size, count in sizes.most_common())]
    if len(sizes) > 1:
        remarks.append("MS depends on size and rate: the mean is over clips that do not compare")
    if enlarged := sum(item.details["enlarged"] for item in measured):
        remarks.append(f"smaller than RAFT takes, and enlarged by their border: {enlarged} clips")
    return remarks


# --- AS ---


def _looks(variant: str, options: Options) -> Plan:
    def frames_of(clip: Subject) -> np.ndarray | Sequence[np.ndarray]:
        if options.as_frames is None or options.as_frames >= len(clip.frames):
            return clip.frames
        return [clip.frames[i] for i in np.linspace(0, len(clip.frames) - 1, options.as_frames).round().astype(int)]

    def see(scores_of: Callable, network, clip: Subject, findings: Findings) -> Measurement:
        return features(scores=scores_of(network, frames_of(clip)))

    def look_at_crops(network, clip: Subject, findings: Findings) -> Measurement:
        frames = frames_of(clip)
        found = features(scores=maniqa.maniqa_scores(network, frames, variant, options.seed))
        return replace(found, details={"enlarged": maniqa.is_enlarged(frames[0])})

    settings = {"as_frames": options.as_frames}
    passes = (
        Pass(
            "aesthetic",
            AESTHETIC,
            partial(see, lambda network, frames: network.scores(frames)),
            ("frames",),
            settings,
        ),
        Pass("musiq", MUSIQ, partial(see, musiq.musiq_scores), ("frames",), settings),
        Pass(f"maniqa-{variant}", MANIQA, look_at_crops, ("frames",), settings | {"seed": options.seed}),
    )

    def combine(prompt: Prompt, findings: Findings) -> Measurement:
        found = [findings[each.name] for each in passes]
        if problem := first_problem(found):
            return problem
        measured = aesthetics.combine_aesthetics(*(each.features["scores"] for each in found))
        return replace(measured, details=measured.details | found[-1].details)

    return Plan(metric_named("AS"), variant, passes, combine, remarks=partial(_look_remarks, options.as_frames))


def _look_remarks(as_frames: int | None, measured: Sequence[Measurement]) -> list[str]:
    remarks = [] if as_frames is None else [f"of {as_frames} frames of each clip: not comparable with other sources"]
    if enlarged := sum(item.details["enlarged"] for item in measured):
        remarks.append(f"smaller than MANIQA takes, and enlarged: {enlarged} clips")
    return remarks


AESTHETIC = Network(
    "SigLIP and its aesthetic head",
    lambda weights, device: aesthetics.AestheticPredictor.from_files(
        weights / "siglip-so400m-patch14-384", read_state_dict(weights / "aesthetic_predictor_v2_5.pth"), device
    ),
    ("aesthetic_predictor_v2_5.pth", "siglip-so400m-patch14-384/"),
)
MUSIQ_FILE = "musiq_koniq_ckpt-e95806b9.pth"
MUSIQ = Network(
    "MUSIQ", lambda weights, device: musiq.load_musiq(read_state_dict(weights / MUSIQ_FILE)).to(device), (MUSIQ_FILE,)
)
MANIQA = Network(
    "MANIQA",
    lambda weights, device: maniqa.load_maniqa(read_state_dict(weights / "ckpt_koniq10k.pt")).to(device),
    ("ckpt_koniq10k.pt",),
)


# --- ID ---


def _identity(variant: str, options: Options) -> Plan:
    first_frame = options.id_reference == "first-frame"

    def measure(network, clip: Subject, findings: Findings) -> Measurement:
        reference = clip.frames[0] if first_frame else clip.image
        found = dinov3.measure_identity(network, clip.frames, reference)
        if reference is None and clip.prompt.image is not None:
            return replace(found, details={"reason": f"there is no image `{clip.prompt.image}`"})
        return found

    def combine(prompt: Prompt, findings: Findings) -> Measurement:
        found = the_only(prompt, findings)
        if found.status != Status.OK:
            return found
        return replace(found, values={"ID": found.details[variant]})

    folder = "dinov3-vitl16-pretrain-lvd1689m"
    network = Network(
        "DINOv3", lambda weights, device: dinov3.Dino.from_folder(weights / folder, device), (f"{folder}/",)
    )
    name, reads = ("identity-first-frame", ("frames",)) if first_frame else ("identity", ("frames", "image"))
    metric = metric_named("ID")
    if first_frame:
        metric = replace(metric, expects=())
    remarks = ["against the first frame of each clip, not the reference image"] if first_frame else []
    return Plan(
        metric, variant, (Pass(name, network, measure, reads),), combine, remarks=lambda measured: list(remarks)
    )


PLANS: dict[str, Callable[[str, Options], Plan]] = {
    "LSE": _lip_sync,
    "WER": _words,
    "FD": _pair_or_set_distance,
    "KL": _classes,
    "CS": _similarity,
    "IS": _inception,
    "AudioBox": _audio_aesthetics,
    "MS": _motion,
    "AS": _looks,
    "ID": _identity,
    **LOCAL_PLANS,
}
