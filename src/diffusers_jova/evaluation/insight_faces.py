# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The face detector of Verse-Bench's LSE, by the package insightface, which users install themselves.

Its models are for research only. They lie in `insightface/models/buffalo_l/` of the folder of weights.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np


MODELS = Path("models") / "buffalo_l"
DETECTION_SIZE = (640, 480)


def load_insightface(weights: Path, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a `detect` for `lip_sync.find_faces`, in the detector's own order of faces.

    Raises:
        FileNotFoundError: if the models are not there; the package itself would download them.
    """
    folder = weights / "insightface"
    if not any((folder / MODELS).glob("*.onnx")):
        raise FileNotFoundError(f"There are no models in `{folder / MODELS}`: put insightface's buffalo_l there.")
    from insightface.app import FaceAnalysis

    provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    app = FaceAnalysis("buffalo_l", root=str(folder), allowed_modules=["detection"], providers=[provider])
    app.prepare(ctx_id=0 if device.startswith("cuda") else -1, det_size=DETECTION_SIZE)

    def detect(frame: np.ndarray) -> np.ndarray:
        faces = app.get(np.ascontiguousarray(frame[..., ::-1]))  # BGR, as OpenCV reads it
        return np.array([[*face.bbox, face.det_score] for face in faces]).reshape(-1, 5)

    return detect
