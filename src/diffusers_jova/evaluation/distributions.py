# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Distances of distributions in closed form: Frechet (FD), Kullback-Leibler (KL) and inception score (IS)."""
# N clips, D features, C classes

import numpy as np
from scipy.linalg import eigh
from scipy.special import log_softmax


PERMUTATION_SEED = 2020  # of torch-fidelity, which av-benchmark follows
LOG_EPS, CLAMP_EPS = 1e-10, 1e-8


def frechet(features: np.ndarray, reference: np.ndarray) -> float:
    """Return the Frechet distance of two sets of features (N, D) and (N', D), as of two normal distributions.

    |m - m'|^2 + Tr(S + S' - 2 (S S')^(1/2)), with ddof 1 in S and S'. With fewer than D + 1 clips S has not its full
    rank, and the distance is too large: print N beside it.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(
            f"A Frechet distance needs 2 clips or more in each set, got {len(features)}, {len(reference)}."
        )
    features, reference = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    difference = features.mean(axis=0) - reference.mean(axis=0)
    covariance, covariance_reference = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (features, reference))
    # S S' has the eigenvalues of the symmetric S^(1/2) S' S^(1/2), so no matrix square root can turn imaginary
    values, vectors = eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.sqrt(eigh(root @ covariance_reference @ root, eigvals_only=True).clip(min=0)).sum()
    return float(difference @ difference + np.trace(covariance) + np.trace(covariance_reference) - 2 * shared)


def kl_of_logits(logits: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return KL(reference || generated) of each pair of clips (N,), of logits (N, C), without an epsilon."""
    log_generated = log_softmax(np.asarray(logits, np.float64), axis=1)
    log_reference = log_softmax(np.asarray(reference, np.float64), axis=1)
    return (np.exp(log_reference) * (log_reference - log_generated)).sum(axis=1)


def inception_score(logits: np.ndarray, splits: int = 10, seed: int = PERMUTATION_SEED) -> tuple[float, float]:
    """Return mean and standard deviation over splits of exp(mean KL(p || mean p)), of logits (N, C) in a drawn order.

    With 100 clips a split has 10, and no score exceeds the clips of a split: print N beside it.
    """
    if len(logits) < splits:
        raise ValueError(f"An inception score over {splits} splits needs as many clips or more, got {len(logits)}.")
    logits = np.asarray(logits, np.float64)[np.random.RandomState(seed).permutation(len(logits))]
    log_p = log_softmax(logits, axis=1)
    scores = []
    for index in range(splits):
        part = log_p[index * len(logits) // splits : (index + 1) * len(logits) // splits]
        p = np.exp(part)
        scores.append(np.exp((p * (part - np.log(p.mean(axis=0)))).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def mova_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return MOVA's distribution over classes (N, C) of independent probabilities: a softmax of their log odds.

    Its clamp keeps 1e-8 from both ends, in float32, where 1 - 1e-8 is 1. We clamp in float64: a probability of 1 gives
    MOVA NaN and here a number.
    """
    clamped = np.asarray(probabilities, np.float64).clip(CLAMP_EPS, 1 - CLAMP_EPS)
    return np.exp(log_softmax(np.log(clamped) - np.log1p(-clamped), axis=1))


def mova_inception_score(probabilities: np.ndarray) -> float:
    """Return MOVA's inception score over one split, of the independent probabilities (N, C) of a set."""
    p = mova_probabilities(probabilities)
    kl = (p * (np.log(p + LOG_EPS) - np.log(p.mean(axis=0) + LOG_EPS))).sum(axis=1)
    return float(np.exp(kl.mean()))
