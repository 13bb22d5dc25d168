"""Where ICT-FaceKit's lips, brows, irises and hair are: masks from the landmarks' geometry on the neutral mesh."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..split import MIRROR68, smoothstep

BROW_HALF_HEIGHT = (0.42, 0.46, 0.45, 0.36, 0.20)
BROW_DROP = (0.48, 0.50, 0.50, 0.40, 0.20)
"""cm at the five landmarks of a brow from the inner end: painted half height, and how far below them its middle runs. The
landmarks lie on the upper brow ridge; so placed, MediaPipe reads a mean browInnerUp of .3 on neutral faces (.7 undropped)."""


def paint_masks(
    mean: np.ndarray,
    faces: np.ndarray,
    part: np.ndarray,
    part_names: tuple[str, ...],
    landmarks: np.ndarray,
    mirror: np.ndarray,
) -> dict[str, np.ndarray]:
    """Material masks (V,) float32 in [0, 1], mirror symmetric. ``landmarks`` (68, 3) lie on ``mean`` (V, 3)."""
    v = mean.astype(np.float64)
    p = landmarks.astype(np.float64)
    p = 0.5 * (p + p[MIRROR68] * [-1.0, 1.0, 1.0])

    def of(name: str) -> np.ndarray:  # none of it where the model has no such part
        mask = np.zeros(len(v), dtype=bool)
        if name in part_names:
            mask[np.unique(faces[part == part_names.index(name)])] = True
        return mask

    skin = of("skin")
    masks: dict[str, np.ndarray] = {}
    for name, source in (("teeth", "teeth"), ("tongue", "gums_tongue")):
        masks[name] = of(source).astype(np.float64)
    eyes = of("eye_left") | of("eye_right")
    masks["sclera"] = eyes.astype(np.float64)
    angle = np.full(len(v), 180.0)
    for name in ("eye_left", "eye_right"):
        inside = of(name)
        if not inside.any():
            continue
        x = v[inside]
        # sphere: |x|² = 2 x·c + (r² - |c|²), least squares
        centre = np.linalg.lstsq(np.c_[2 * x, np.ones(len(x))], (x**2).sum(1), rcond=None)[0][:3]
        d = x - centre
        angle[inside] = np.degrees(np.arctan2(np.hypot(d[:, 0], d[:, 1]), d[:, 2]))
    masks["iris"] = 1.0 - smoothstep((angle - 28.0) / 4.0)
    masks["pupil"] = 1.0 - smoothstep((angle - 10.0) / 4.0)

    outer = p[48:60]
    front = skin & (v[:, 2] > p[36, 2] - 4.0)
    # depth behind the lips' front surface, a parabola over x through the outer contour
    lips = p[48:68]
    surface = np.polynomial.polynomial.polyfit(np.abs(lips[:, 0]), lips[:, 2], 2)
    depth = np.polynomial.polynomial.polyval(np.minimum(np.abs(v[:, 0]), 3.5), surface) - v[:, 2]
    within = -_signed_distance(v[:, :2], outer[:, :2])
    box = (np.abs(v[:, 0]) < 4.0) & (v[:, 1] < p[33, 1] - 0.3) & (v[:, 1] > p[57, 1] - 0.8)
    # upstream gives the pouch of the mouth the back of the head's material
    pouch = _pouch(v, faces[part == part_names.index("head")], p) if "head" in part_names else np.zeros(len(v), bool)
    masks["mouth_cavity"] = np.maximum((skin & box) * smoothstep((depth - 0.75) / 0.5), pouch & ~skin)
    masks["nostril"] = skin * _nostrils(v, faces, p)
    masks["lip"] = front * smoothstep((within + 0.10) / 0.16) * (1.0 - smoothstep((depth - 0.8) / 0.4))

    brow = np.zeros(len(v))
    lid = np.zeros(len(v))
    thick = BROW_HALF_HEIGHT
    for line in (p[22:27], p[17:22][::-1]):
        dense = _resample(line, 40)
        half = np.interp(np.linspace(0, 4, 40), range(5), thick)
        dense[:, 1] -= np.interp(np.linspace(0, 4, 40), range(5), BROW_DROP)
        distance = np.linalg.norm(v[:, None, :2] - dense[None, :, :2], axis=2) / half
        near = distance.min(axis=1)
        brow = np.maximum(brow, 1.0 - smoothstep((near - 0.5) / 0.5))
    masks["brow"] = brow * front * (v[:, 2] > p[17, 2] - 2.0)
    lashline = np.zeros(len(v))
    for eye in (p[36:42], p[42:48]):
        ring = _resample(np.r_[eye, eye[:1]], 60)
        d = np.linalg.norm(v[:, None] - ring[None], axis=2)
        lid = np.maximum(lid, 1.0 - smoothstep((d.min(axis=1) - 0.1) / 0.55))
        upper = d[:, :30].min(axis=1) < d[:, 30:].min(axis=1)  # the first half runs over the upper lid
        lashline = np.maximum(lashline, np.where(upper, 1.0, 0.35) * (1.0 - smoothstep((d.min(axis=1) - 0.05) / 0.13)))
    masks["lid"] = lid * front
    masks["lashline"] = lashline * front
    blush = np.zeros(len(v))
    cheeks = [0.55 * p[41] + 0.45 * p[48] + [-0.9, 0, 0], 0.55 * p[46] + 0.45 * p[54] + [0.9, 0, 0]]
    for c, r in ((p[30], 1.0), (cheeks[0], 2.2), (cheeks[1], 2.2)):
        blush = np.maximum(blush, np.exp(-0.5 * (np.linalg.norm(v - c, axis=1) / r) ** 2))
    masks["blush"] = blush * skin
    masks["mouth_shadow"] = (of("teeth") | of("gums_tongue")) * smoothstep((depth - 0.4) / 2.6)
    masks["scalp_hair"] = _hair(v, p, skin | of("head"))
    return {k: (0.5 * (m + m[mirror])).astype(np.float32) for k, m in masks.items()}


def _pouch(v: np.ndarray, faces: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Vertices (V,) bool of the connected piece of ``faces`` that lies behind the lips."""
    ends = np.r_[faces[:, [0, 1]], faces[:, [1, 2]]]
    label = connected_components(coo_matrix((np.ones(len(ends)), ends.T), shape=(len(v), len(v))), directed=False)[1]
    inside = np.zeros(len(v), dtype=bool)
    lips = p[48:68]
    for piece in np.unique(label[faces[:, 0]]):
        x = v[label == piece]
        low, high = x.min(axis=0), x.max(axis=0)
        if high[0] - low[0] < 9.0 and low[0] < 0 < high[0] and low[1] < lips[:, 1].mean() < high[1]:
            inside |= label == piece
    return inside


def _nostrils(v: np.ndarray, faces: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Mask (V,) of the skin inside the nose: near a nostril's axis, facing it or its opening."""
    tri = v[faces]
    cross = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    normal = np.zeros_like(v)
    for c in range(3):
        np.add.at(normal, faces[:, c], cross)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    mask = np.zeros(len(v))
    up = np.array([0.0, 0.95, -0.3])
    for rim in (p[33:36], p[31:34]):
        foot = rim.mean(axis=0)
        along = (v - foot) @ up
        away = v - foot - along[:, None] * up
        far = np.linalg.norm(away, axis=1)
        out = foot - 0.2 * up - v
        to_axis = -(normal * away).sum(axis=1) / np.maximum(far, 1e-9)
        to_opening = (normal * out).sum(axis=1) / np.maximum(np.linalg.norm(out, axis=1), 1e-9)
        near = (1.0 - smoothstep((far - 0.9) / 0.3)) * smoothstep(along / 0.2) * (along < 2.0)
        mask = np.maximum(mask, near * smoothstep((np.maximum(to_axis, to_opening) - 0.05) / 0.35))
    return mask


def _hair(v: np.ndarray, p: np.ndarray, on: np.ndarray) -> np.ndarray:
    """A short hair cap: above a hairline that runs from the forehead down the temples, around the ears to the nape."""
    brow, ear = p[[19, 24], 1].mean(), p[[0, 16]].mean(axis=0)
    # (z, y) of the line from the front to the back
    z = np.r_[ear[2] + np.array([-12.6, -8.6, -7.0, -6.2, -5.4, -1.7, -0.7, 0.9]), p[24, 2] - 1.0]
    y = np.r_[ear[1] + np.array([-7.0, -5.6, -3.2, 0.4, 1.1, 1.1, 0.9, 2.6]), brow + 4.2]
    line = np.interp(v[:, 2], z, y)
    return on * smoothstep((v[:, 1] - line + 0.35) / 0.7)


def _resample(line: np.ndarray, n: int) -> np.ndarray:
    t = np.linspace(0, len(line) - 1, n)
    return np.stack([np.interp(t, np.arange(len(line)), line[:, k]) for k in range(line.shape[1])], axis=1)


def _signed_distance(x: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Distance (N,) of points (N, 2) to a closed polygon (M, 2), negative inside."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    edge = b - a
    t = np.clip(((x[:, None] - a) * edge).sum(-1) / (edge**2).sum(-1), 0, 1)
    d = np.linalg.norm(x[:, None] - (a + t[..., None] * edge), axis=2).min(axis=1)
    cross = (a[:, 1] > x[:, 1:2]) != (b[:, 1] > x[:, 1:2])
    with np.errstate(divide="ignore", invalid="ignore"):
        at = a[:, 0] + (x[:, 1:2] - a[:, 1]) / (b[:, 1] - a[:, 1]) * edge[:, 0]
    inside = (cross & (x[:, :1] < at)).sum(axis=1) % 2 == 1
    return np.where(inside, -d, d)
