"""The 52 ARKit expressions of the head: read, made mirror symmetric, gaze as rotations, lids mended."""

from __future__ import annotations

import numpy as np
from head_source import DATA, Source

ARKIT = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip


def partner(name: str) -> str:
    """The expression that is this one's mirror image."""
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    if name.endswith("Right"):
        return name.removesuffix("Right") + "Left"
    return name


def side_of(name: str) -> int:
    """1 for a shape of the left, -1 of the right, 0 for one without a side (directions such as mouthLeft too)."""
    if name.startswith(("jaw", "mouthLeft", "mouthRight")):
        return 0
    return 1 if name.endswith("Left") else -1 if name.endswith("Right") else 0


def native_expressions(source: Source) -> tuple[np.ndarray, dict[str, float]]:
    """Native fields (52, N, 3) in cm, exact mirror pairs, and how far each was from its partner's image (cm)."""
    raw = np.stack([source.target(f"{DATA}faceunits01/targets/faceunits/{n}.target") for n in ARKIT])
    twin = source.reflect(raw[[ARKIT.index(partner(n)) for n in ARKIT]])
    residual = np.linalg.norm(raw - twin, axis=2).max(1)
    return (raw + twin) / 2, dict(zip(ARKIT, residual.round(4).tolist(), strict=True))
