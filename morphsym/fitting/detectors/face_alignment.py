"""The package ``face-alignment`` (Bulat and Tzimiropoulos 2017): 68 points, 2D (visible contour) or 3D (anatomical contour).

Optional: ``pip install 'morphsym[face-alignment]'``. Its own code downloads weights without asking, into the folder of
``torch.hub``; here they come from morphsym's cache (``morphsym weights get face-alignment-s3fd`` and ``-2d`` or ``-3d``)
and nothing is ever downloaded.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import weights
from ...errors import InputError, MissingDependencyError
from ..threads import one_each
from .base import Detection, Kind, box_of, by_size, check_image

WEIGHTS = {"face-alignment": "face-alignment-2d", "face-alignment-3d": "face-alignment-3d"}


class FaceAlignmentDetector:
    """``image (H, W, 3)`` uint8 RGB to detections. ``kind``: 'face-alignment' (2D) or 'face-alignment-3d'."""

    def __init__(self, kind: str = "face-alignment", device: str = "cpu", offline: bool = False) -> None:
        try:
            import face_alignment
        except ImportError:
            raise MissingDependencyError(
                "the detector 'face-alignment' needs the package face-alignment; run `pip install 'morphsym[face-alignment]'`"
            ) from None
        self.name = kind
        self._opened_with = kind, device, offline
        network = weights.path(WEIGHTS[kind], offline)
        boxes = weights.path("face-alignment-s3fd", offline)
        types = face_alignment.LandmarksType
        # TWO_HALF_D is the picture of the 3D points: their contour is the jaw itself, not the silhouette.
        wanted = types.TWO_D if kind == "face-alignment" else types.TWO_HALF_D
        with _local_weights(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._network: Any = face_alignment.FaceAlignment(
                wanted,
                device=device,
                face_detector="sfd",
                face_detector_kwargs={"path_to_detector": str(boxes)},
                compile=False,
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process: the networks are opened there."""
        return type(self), self._opened_with

    def __call__(self, image: np.ndarray) -> list[Detection]:
        check_image(image)
        with warnings.catch_warnings(), one_each():  # last bits of a convolution depend on the number of threads
            warnings.simplefilter("ignore")  # it warns when it sees no face; that is said in the result
            found = self._network.get_landmarks_from_image(
                np.ascontiguousarray(image), return_bboxes=True, return_landmark_score=True
            )
        points, scores, boxes = found if found is not None else (None, None, None)
        detections = []
        for p, s, b in zip(points or [], scores or [], boxes if boxes is not None else [], strict=True):
            xy = np.asarray(p, dtype=np.float64)[:, :2] + 0.5  # its pixel centres are at integers
            kind: Kind = "visible" if self.name == "face-alignment" else "anatomical"
            score = float(np.mean(s)) if s is not None else float(b[4])
            detections.append(Detection(xy, box_of(xy), score, self.name, kind=kind))
        return by_size(detections)


@contextlib.contextmanager
def _local_weights(network: Path) -> Iterator[None]:
    """While this lasts, torch.hub's folder is ours, so that face-alignment finds its network there and downloads nothing.

    Its loader looks for ``<hub>/checkpoints/<file name>``: a link to the file in the cache.
    """
    hub = network.parent / "torch_hub"
    link = hub / "checkpoints" / network.name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)
        try:
            os.link(network, link)
        except OSError:
            link.symlink_to(network)
    if not link.is_file():
        raise InputError(f"cannot link {network} below {hub}; is the folder writable?")
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(hub))
    try:
        yield
    finally:
        torch.hub.set_dir(before)
