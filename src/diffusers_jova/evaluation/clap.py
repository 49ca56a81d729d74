# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""CLAP (arXiv:2211.06687): how well audio fits a text (CS) or another audio (FD), with LAION's weights.

The network is transformers' `ClapModel`; here are LAION's names for its weights and LAION's way from samples to mels,
which transformers' feature extractor leaves in two points: it takes a single short clip for a long one, and shrinks a
long one without a low-pass filter.
"""
# T frames of 10 ms, M = 64 mels, 4 channels: the whole clip shrunk, and its first, middle and last part

import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig, RobertaTokenizer
from transformers.audio_utils import mel_filter_bank
from transformers.initialization import no_init_weights

from .audio_input import int16_round_trip, is_silent, peak_normalized
from .checkpoints import load_weights
from .measurement import Measurement, Status


SAMPLING_RATE = 48000
MAX_SAMPLES = 10 * SAMPLING_RATE
NUM_FFT, HOP, NUM_MELS, MIN_HZ, MAX_HZ = 1024, 480, 64, 50, 14000
MAX_FRAMES = MAX_SAMPLES // HOP + 1
MIN_POWER = 1e-10
MAX_TOKENS = 77

_UNUSED = re.compile(  # heads for AudioSet, an unused pair of MLPs, and what the network computes itself
    r"^(audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\.|(audio|text)_transform\."
    r"|text_branch\.embeddings\.position_ids$)|\.(attn_mask|relative_position_index)$"
)
_RENAMES = (
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^text_branch\.", "text_model."),
    (r"^(audio|text)_projection\.0\.", r"\1_projection.linear1."),
    (r"^(audio|text)_projection\.2\.", r"\1_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
)


@dataclass(frozen=True)
class ClapProtocol:
    """How one source prepares audio and text.

    Attributes:
        sampling_rate: to decode at. The network takes every rate for 48 kHz: with another one it hears another pitch.
        normalized: to a peak of -1 dBFS, and through 16 bits.
        centred: minus its mean.
        seconds: that are heard; None for all.
        text: "audio_prompt" (the first of the list) or "prompt".
        seed: of the parts of clips above 10 s; None for one from the clip's name.
    """

    sampling_rate: int = SAMPLING_RATE
    normalized: bool = True
    centred: bool = False
    seconds: float | None = None
    text: str = "audio_prompt"
    seed: int | None = None


PROTOCOLS = {
    "verse": ClapProtocol(),  # 630k-audioset-fusion-best.pt
    "mova": ClapProtocol(sampling_rate=32000, text="prompt", seed=42),  # the same weights
    "avb": ClapProtocol(normalized=False, centred=True, seconds=8.0),  # music_speech_audioset_epoch_15_esc_89.98.pt
    "javis": ClapProtocol(normalized=False),  # the folder laion/clap-htsat-unfused
}


class Clap(nn.Module):
    """Embeds audio and texts in one space, (512,) of length one.

    Args:
        filters: (513, 64) from power spectrum to mels.
        tokenizer: of RoBERTa; None to embed no text.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, model: ClapModel, filters: torch.Tensor, tokenizer=None):
        super().__init__()
        self.model, self.tokenizer = model.eval(), tokenizer
        self.fusion = model.config.audio_config.enable_fusion
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(NUM_FFT), persistent=False)

    def mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the mels (T, M) in dB of samples (samples,) at 48 kHz."""
        spectrum = torch.stft(waveform, NUM_FFT, HOP, window=self.window, return_complex=True)
        return 10 * (spectrum.abs().square().T @ self.filters).clamp(min=MIN_POWER).log10()

    def mel_channels(
        self, waveform: np.ndarray, random: np.random.RandomState | None = None
    ) -> tuple[torch.Tensor, bool]:
        """Return the mels that the network hears, (4 or 1, 1001, M), and whether they are parts of a long clip.

        What is shorter than 10 s is repeated as a whole as often as it fits, and then filled up with zeros. Of what is
        longer, three parts at random places are heard beside the whole, shrunk (4); without fusion, one part (1).

        Args:
            waveform: (samples,) at 48 kHz.
        """
        random = random or np.random.RandomState(0)
        samples = torch.from_numpy(np.asarray(waveform, np.float32)).to(self.window.device)
        if len(samples) <= MAX_SAMPLES:
            samples = samples.repeat(MAX_SAMPLES // len(samples))
            mel = self.mel(F.pad(samples, (0, MAX_SAMPLES - len(samples))))
            return mel.expand(4 if self.fusion else 1, -1, -1), False
        if not self.fusion:
            start = random.randint(0, len(samples) - MAX_SAMPLES + 1)
            return self.mel(samples[start : start + MAX_SAMPLES])[None], False
        mel = self.mel(samples)
        if len(mel) == MAX_FRAMES:  # longer by less than a hop
            return mel.expand(4, -1, -1), False
        thirds = np.array_split(np.arange(len(mel) - MAX_FRAMES + 1), 3)
        starts = [random.choice(third if len(third) else [0]) for third in thirds]
        shrunk = F.interpolate(mel[None, None], (MAX_FRAMES, NUM_MELS), mode="bilinear", antialias=True)[0]
        return torch.cat([shrunk, *(mel[None, start : start + MAX_FRAMES] for start in starts)]), True

    @torch.no_grad()
    def embed_mel(self, mel: torch.Tensor, is_longer: bool) -> torch.Tensor:
        """Return the embedding (512,) of the mels of `mel_channels`."""
        longer = torch.tensor([[is_longer]], device=mel.device)
        return self.model.get_audio_features(input_features=mel[None], is_longer=longer).pooler_output[0]

    def embed_audio(self, waveform: np.ndarray, random: np.random.RandomState | None = None) -> torch.Tensor:
        """Return the embedding (512,) of samples (samples,) at 48 kHz, as they are; see `embed_clip`."""
        return self.embed_mel(*self.mel_channels(waveform, random))

    @torch.no_grad()
    def embed_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (N, 512) of texts (N, 77) in RoBERTa's tokens."""
        device = self.window.device
        return self.model.get_text_features(
            input_ids=input_ids.to(device), attention_mask=attention_mask.to(device)
        ).pooler_output

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the embeddings (N, 512) of texts; what exceeds 77 tokens is cut."""
        if self.tokenizer is None:
            raise ValueError("CLAP was loaded without a tokenizer: give `load_clap` the folder `roberta-base`.")
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return self.embed_tokens(tokens["input_ids"], tokens["attention_mask"])


def load_clap(state_dict: Mapping[str, torch.Tensor], tokenizer_folder: str | os.PathLike | None = None) -> Clap:
    """Return the network with the weights of one of LAION's files, with or without fusion.

    Args:
        state_dict: names without `module.`; see `checkpoints.state_dict_of`.
        tokenizer_folder: `roberta-base`; nothing is downloaded.

    Raises:
        ValueError: if these are other weights.
    """
    patches = state_dict.get("audio_branch.patch_embed.proj.weight")
    if patches is None:
        raise ValueError(
            "These are not the weights of LAION's CLAP with HTSAT: `audio_branch.patch_embed` is missing."
        )
    fusion = "audio_branch.patch_embed.mel_conv2d.weight" in state_dict
    # the fused files hear torchaudio's mels, the others those of their own layer
    filters = None if fusion else state_dict.get("audio_branch.logmel_extractor.melW")
    with no_init_weights():
        model = ClapModel(_config_of(state_dict, patches.shape[0], fusion))
    load_weights(model, _renamed(state_dict), "LAION's CLAP", "(position_ids|token_type_ids|relative_position_index)$")
    tokenizer = None
    if tokenizer_folder is not None:
        tokenizer = RobertaTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    return Clap(model, _mel_filters(fusion) if filters is None else filters, tokenizer)


def load_clap_folder(folder: str | os.PathLike) -> Clap:
    """Return the network of a folder in transformers' layout, such as `clap-htsat-unfused`; nothing is downloaded."""
    model = ClapModel.from_pretrained(folder, local_files_only=True).requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Clap(model, _mel_filters(model.config.audio_config.enable_fusion), tokenizer)


def embed_clip(
    network: Clap, waveform: np.ndarray | None, protocol: ClapProtocol = PROTOCOLS["verse"], clip_name: str = ""
) -> torch.Tensor | None:
    """Return the embedding (512,) of a clip's audio, on the CPU; None for silence.

    Args:
        waveform: (samples,) float in [-1, 1], one channel, at the protocol's sampling rate.
        clip_name: seeds the parts of clips above 10 s.
    """
    if is_silent(waveform):
        return None
    if protocol.centred:
        waveform = waveform - waveform.mean()
    if protocol.seconds is not None:
        waveform = waveform[: round(protocol.seconds * protocol.sampling_rate)]
    if protocol.normalized:
        waveform = int16_round_trip(peak_normalized(waveform))
    seed = zlib.crc32(clip_name.encode()) if protocol.seed is None else protocol.seed
    return network.embed_audio(waveform, np.random.RandomState(seed)).cpu()


def measure_similarity(audio: torch.Tensor | None, text: torch.Tensor | None) -> Measurement:
    """Return CS: the cosine between a clip's audio and its text, both embedded."""
    if text is None:
        return Measurement(Status.NO_TEXT)
    if audio is None:
        return Measurement(Status.SILENT)
    return Measurement(Status.OK, {"CS": float(F.cosine_similarity(audio.double(), text.double().cpu(), dim=0))})


def measure_pair_distance(audio: torch.Tensor | None, reference: torch.Tensor | None) -> Measurement:
    """Return FD of Verse-Bench, `clap-pair`: between a clip's audio and its reference, both embedded."""
    if reference is None:
        return Measurement(Status.NO_REFERENCE)
    if audio is None:
        return Measurement(Status.SILENT)
    return Measurement(Status.OK, {"FD": fd_pair(audio.cpu().numpy(), reference.cpu().numpy())})


def fd_pair(embedding: np.ndarray, reference: np.ndarray) -> float:
    """Return Verse-Bench's FD of two embeddings (512,) of length one: 2 - 2 cos, between 0 and 4, almost.

    It is not a Frechet distance of two sets: np.cov of one row was, before numpy 2.2, the variance of its components,
    so (sigma - sigma_reference)^2 of some 1e-7 comes on top.
    """
    embedding, reference = np.asarray(embedding, np.float64), np.asarray(reference, np.float64)
    spread = embedding.std(ddof=1) - reference.std(ddof=1)
    return float(np.square(embedding - reference).sum() + spread**2)


def _mel_filters(fusion: bool) -> torch.Tensor:
    norms = {"norm": None, "mel_scale": "htk"} if fusion else {"norm": "slaney", "mel_scale": "slaney"}
    return torch.from_numpy(mel_filter_bank(NUM_FFT // 2 + 1, NUM_MELS, MIN_HZ, MAX_HZ, SAMPLING_RATE, **norms))


def _config_of(state_dict: Mapping[str, torch.Tensor], width: int, fusion: bool) -> ClapConfig:
    """Return the configuration that the shapes tell: HTSAT-tiny and -base differ in width, depths and heads."""
    blocks = re.compile(r"audio_branch\.layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table$")
    heads_of_blocks = {
        tuple(map(int, match.groups())): value.shape[1]
        for key, value in state_dict.items()
        if (match := blocks.match(key))
    }
    stages = range(1 + max(stage for stage, _ in heads_of_blocks))
    depths = [sum(stage == block_stage for block_stage, _ in heads_of_blocks) for stage in stages]
    heads = [heads_of_blocks[stage, 0] for stage in stages]
    audio = ClapAudioConfig(
        enable_fusion=fusion,
        patch_embeds_hidden_size=width,
        hidden_size=width * 8,
        depths=depths,
        num_attention_heads=heads,
    )
    text = ClapTextConfig(layer_norm_eps=1e-5)
    return ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict())


def _renamed(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in state_dict.items():
        if _UNUSED.search(key):
            continue
        for pattern, replacement in _RENAMES:
            key = re.sub(pattern, replacement, key)
        if ".self.qkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3)):
                renamed[key.replace("qkv", name)] = part
        else:
            renamed[key] = value
    return renamed
