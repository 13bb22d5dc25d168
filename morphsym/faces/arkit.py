"""ARKit's 52 blendshape names: their side, mirror partner, region and nerve.

Source of the names: Apple, ARFaceAnchor.BlendShapeLocation (developer.apple.com/documentation/arkit). "Left" and
"Right" are the subject's. A trap: ``jawLeft``, ``jawRight``, ``mouthLeft`` and ``mouthRight`` name the *direction* of a
movement of both halves, so they have no side.
"""

from __future__ import annotations

_SIDED = [
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp",
    "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile",
    "mouthStretch", "mouthUpperUp", "noseSneer",
]  # fmt: skip
_UNSIDED = [
    "browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut",
]  # fmt: skip
DIRECTIONS = {
    "jawLeft": "jawRight",
    "jawRight": "jawLeft",
    "mouthLeft": "mouthRight",
    "mouthRight": "mouthLeft",
}
"""Shapes whose name is a direction, and the opposite one."""

ARKIT_NAMES: tuple[str, ...] = tuple(
    sorted([f"{n}{s}" for n in _SIDED for s in ("Left", "Right")] + _UNSIDED + list(DIRECTIONS))
)
"""All 52, sorted."""


def side_of(name: str) -> int:
    """+1 for a shape of the subject's left half, -1 for the right, 0 for a shape without a side.

    Understands ARKit's names and the split ones (``mouthPucker.left``). A direction (``mouthLeft``) has no side.
    """
    if name.endswith(".left"):
        return 1
    if name.endswith(".right"):
        return -1
    if name in DIRECTIONS:
        return 0
    if name.endswith("Left"):
        return 1
    return -1 if name.endswith("Right") else 0


def mirror_name(name: str) -> str:
    """The shape that is the mirror image: ``mouthSmileRight`` of ``mouthSmileLeft``, ``mouthRight.right`` of
    ``mouthLeft.left``, the shape itself where it is symmetric."""
    stem, dot, suffix = name.rpartition(".")
    if dot and suffix in ("left", "right"):
        return f"{DIRECTIONS.get(stem, stem)}.{'right' if suffix == 'left' else 'left'}"
    if name in DIRECTIONS:
        return DIRECTIONS[name]
    if name.endswith("Left"):
        return name[:-4] + "Right"
    return name[:-5] + "Left" if name.endswith("Right") else name


def region_of(name: str) -> str:
    """The region of :data:`morphsym.types.REGIONS` that a shape belongs to; the jaw and the tongue count as mouth."""
    for region in ("brow", "eye", "nose", "cheek"):
        if name.startswith(region):
            return region
    return "mouth"


def nerve_of(name: str) -> str:
    """The nerve class of :data:`morphsym.types.NERVES` that moves a shape.

    ``jaw…`` is the trigeminal's motor branch, ``eyeLook…`` the eye muscles' nerves, ``tongue…`` the hypoglossal; all
    else counts as facial. (``eyeWide`` is strictly the oculomotor's levator; see docs/design/faces.md.)
    """
    for prefix, nerve in (("jaw", "jaw"), ("eyeLook", "gaze"), ("tongue", "tongue")):
        if name.startswith(prefix):
            return nerve
    return "facial"
