"""Landmark detectors behind one contract: ``get(name)(image) -> list[Detection]``, the largest face first."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError
from .base import KINDS, Detection, Detector
from .file import FileDetector

NAMES = ("mediapipe", "face-alignment", "face-alignment-3d")
"""Detectors that need no file; a landmark file goes through :class:`FileDetector`."""

__all__ = ["KINDS", "NAMES", "Detection", "Detector", "FileDetector", "get"]


def get(name: str, offline: bool = False, thorough: bool = False) -> Detector:
    """The detector ``name``. Packages are imported, and weights looked for, on use; nothing is downloaded.

    ``thorough`` searches for the small faces of a group too, where the detector does not by itself.

    Raises :class:`UsageError` for an unknown name, :class:`MissingDependencyError` with what to run.
    """
    if name == "mediapipe":
        from .mediapipe import MediaPipeDetector

        return MediaPipeDetector(offline=offline, thorough=thorough)
    if name in ("face-alignment", "face-alignment-3d"):
        from .face_alignment import FaceAlignmentDetector

        return FaceAlignmentDetector(name, offline=offline)
    if Path(name).suffix.lower() in (".pts", ".csv", ".json", ".npz"):
        return FileDetector(name)
    raise UsageError(f"unknown detector {name!r}; known: {', '.join(NAMES)}, or a landmark file")
