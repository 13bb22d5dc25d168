"""Where a detector's points lie on a model.

Two definitions of 'the outer end of the brow' differ by up to a centimetre between annotation schemes, which is more than
most expressions move it. So each detector gets its own places on the mesh: MediaPipe's points go to the model's
MediaPipe embedding (``model.landmarks478``, or for ICT-FaceKit the bundled ``heads/ict_mediapipe.npz``, both found by detecting
on renders); 68 points from elsewhere go to the model's own 68 landmarks, whose contour slides along the silhouette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import resources
from .detectors.mediapipe import SUBSET_68

if TYPE_CHECKING:
    from ..faces import Embedding, MorphableModel

BUNDLED = {"ict": "heads/ict_mediapipe.npz"}
"""MediaPipe's points on models that are not bundled themselves, by the model's name."""


def places(model: MorphableModel, mediapipe: bool) -> tuple[np.ndarray, np.ndarray, bool]:
    """Vertices ``(68, 3)`` and barycentric weights ``(68, 3)`` of the 68 landmarks, and whether the contour slides.

    ``mediapipe``: the landmarks are MediaPipe's. Models on which MediaPipe's points are not known use their own 68
    landmarks for it, without sliding.
    """
    embedding: Embedding = model.landmarks68
    if mediapipe:
        subset = list(SUBSET_68)
        if model.landmarks478 is not None:
            embedding = model.landmarks478
            return np.asarray(model.faces)[embedding.triangle[subset]], embedding.barycentric[subset], False
        if model.name in BUNDLED:
            with np.load(resources.asset(BUNDLED[model.name]), allow_pickle=False) as z:
                if int(z["n_vertices"]) == model.n_vertices:
                    return z["vertices"][subset], z["barycentric"][subset], False
    return np.asarray(model.faces)[embedding.triangle], embedding.barycentric, not mediapipe
