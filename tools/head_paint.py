"""Where things are on the head: detail region, PCA metric, paint masks and the mean colour."""

from __future__ import annotations

import numpy as np
from head_mesh import Builder, Mesh, Polygon
from head_source import Source, sample_mask

NATIVE_ORIGIN = (69.84, 5.45)  # roughly y, z of the origin of the model in MakeHuman's frame, cm
BROW = np.array(  # |x|, y, half thickness along the brow of the mean head, cm
    [[1.25, 4.62, 0.16], [1.8, 4.72, 0.27], [2.6, 4.86, 0.28], [3.4, 4.98, 0.25], [4.2, 4.95, 0.21], [4.9, 4.68, 0.15],
     [5.5, 4.22, 0.05]]
)  # fmt: skip
HAIRLINE = np.array(  # azimuth from the front in degrees, height y in cm
    [[0, 10.4], [22, 10.3], [38, 9.2], [50, 7.0], [60, 4.4], [67, 1.6], [74, 0.6], [80, 3.2], [100, 3.4], [112, 0.5],
     [130, -4.0], [180, -4.8]]
)  # fmt: skip


def polygon_mask(mask: np.ndarray, polygon: Polygon) -> float:
    """Mean of a UV mask at a polygon's corners."""
    return float(sample_mask(mask, np.array([t[:2] for _, t in polygon])).mean())


def detail_region(source: Source, builder: Builder, polygons: list[Polygon]) -> np.ndarray:
    """Which left-half quads of the face are subdivided: lips, lids, brows, nose and the skin around them."""
    out = []
    lips, lids = source.mask("lips"), source.mask("eyelids")
    for polygon in polygons:
        p = np.stack([builder.position(v) for v, _ in polygon])
        c = p.mean(0)
        normal = np.cross(p[2] - p[0], p[3] - p[1])
        normal /= np.linalg.norm(normal) + 1e-12
        size = np.sqrt(np.linalg.norm(np.cross(p[2] - p[0], p[3] - p[1])) / 2)
        face = c[2] > 9.5 and 61.0 < c[1] < 79.0 and normal[2] > 0.2 and size > 0.27
        x, y, z = abs(c[0]), c[1] - NATIVE_ORIGIN[0], c[2] - NATIVE_ORIGIN[1]
        line = np.interp(np.degrees(np.arctan2(x, z)), HAIRLINE[:, 0], HAIRLINE[:, 1])
        face |= bool(abs(y - line) < 1.0 and size > 0.45 and y > -6)
        painted = polygon_mask(lips, polygon) > 0.3 or (polygon_mask(lids, polygon) > 0.3 and normal[2] > 0)
        out.append(bool(face or painted))
    return np.array(out)


def importance(mean: np.ndarray, faces: np.ndarray, part: np.ndarray, skin_count: int) -> np.ndarray:
    """Vertex weights of the PCA metric: area on the skin; ears, back of the head and neck count less."""
    w = np.zeros(len(mean))
    on = part == 0
    tri = mean[faces[on]]
    area = np.linalg.norm(np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0]), axis=1) / 6
    np.add.at(w, faces[on].ravel(), np.repeat(area, 3))
    front = 1 / (1 + np.exp(-(mean[:, 2] - 3.0) / 1.0))
    neck = 1 / (1 + np.exp(-(mean[:, 1] + 8.5) / 1.0))
    w *= (0.1 + 0.9 * front) * (0.1 + 0.9 * neck)
    w[skin_count:] = w.sum() * 0.02 / (len(mean) - skin_count)
    return np.asarray(w / w.sum())


def smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep from 0 at ``low`` to 1 at ``high`` (low > high falls)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def lip_mask(source: Source, mesh: Mesh) -> np.ndarray:
    """The lips' mask (V,) in [0, 1] on the mesh without eyeballs; 0 off the skin and the mouth cavity."""
    body = np.isin(np.arange(len(mesh.mirror)), mesh.faces[mesh.part <= 1])
    value = sample_mask(source.mask("lips"), mesh.vertex_uv) * body
    return np.asarray((value + value[mesh.mirror]) / 2)


COLOURS = {
    "skin": (0.80, 0.62, 0.53), "flush": (0.79, 0.52, 0.45), "lid": (0.62, 0.44, 0.37), "lip": (0.70, 0.40, 0.37),
    "brow": (0.20, 0.14, 0.10), "scalp_hair": (0.17, 0.12, 0.09), "mouth_cavity": (0.22, 0.06, 0.06),
    "gum": (0.60, 0.33, 0.32), "teeth": (0.88, 0.85, 0.78), "tongue": (0.64, 0.34, 0.33), "sclera": (0.88, 0.86, 0.84),
    "iris": (0.33, 0.22, 0.14), "pupil": (0.02, 0.02, 0.02), "catch_light": (0.95, 0.95, 0.95),
    "lashline": (0.16, 0.10, 0.08), "lash": (0.07, 0.055, 0.05),
}  # fmt: skip
PAINTS = tuple(COLOURS)  # laid over each other in this order


def _brow(mean: np.ndarray) -> np.ndarray:
    """The brow's mask from the distance to its centre line, seen from the front; soft at the rim."""
    x, y = np.abs(mean[:, 0]), mean[:, 1]
    fine = np.linspace(0, len(BROW) - 1, 200)
    line = np.stack([np.interp(fine, np.arange(len(BROW)), BROW[:, k]) for k in range(3)], 1)
    distance = np.hypot(x[:, None] - line[None, :, 0], y[:, None] - line[None, :, 1])
    inside = (line[None, :, 2] - distance).max(1)
    return smooth(inside, -0.22, 0.20) * (mean[:, 2] > 4.0)


def paint(
    source: Source, mean: np.ndarray, faces: np.ndarray, part: np.ndarray, mirror: np.ndarray, vertex_uv: np.ndarray,
    skin_count: int, eye_angle: np.ndarray, mesh: Mesh,
) -> tuple[list[str], np.ndarray, np.ndarray]:  # fmt: skip
    """Names, masks (P, V) in [0, 1] and the mean colour (V, 3) sRGB. All are mirror symmetric."""
    n = len(mean)
    on = [np.isin(np.arange(n), faces[part == k]) for k in range(7)]
    masks = {k: np.zeros(n) for k in PAINTS}
    skin = on[0] & ~on[1]
    masks["skin"] = (on[0] | on[1]).astype(float)
    x, y, z = np.abs(mean[:, 0]), mean[:, 1], mean[:, 2]

    def blob(cx: float, cy: float, r: float) -> np.ndarray:
        return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * r * r))

    ears = sample_mask(source.mask("ears"), vertex_uv) * on[0]
    flush = 0.35 * blob(4.4, -0.6, 1.6) + 0.4 * blob(0.0, -0.6, 0.9) + 0.25 * blob(0.0, -7.2, 1.0)
    masks["flush"] = np.clip(flush * smooth(z, 3.0, 6.0) + 0.5 * ears, 0, 1) * skin
    ball = _ball_centre(mean, skin_count, eye_angle)
    sided = np.stack([np.abs(mean[:, 0]), y, z], 1)
    off = np.linalg.norm(sided - ball[0], axis=1) - ball[1]
    lids = sample_mask(source.mask("eyelids"), vertex_uv) * on[0]
    upper = smooth(sided[:, 1] - ball[0][1], -0.25, 0.25)
    masks["lid"] = np.clip(lids * smooth(off, 0.45, 0.15) * 0.45, 0, 1)
    masks["lashline"] = np.clip(
        lids * smooth(off, 0.2, 0.1) * smooth(z - ball[0][2], 0.6, 0.9) * (0.25 + 0.6 * upper), 0, 1
    )
    masks["lip"][:skin_count] = lip_mask(source, mesh) * on[0][:skin_count]
    masks["brow"] = _brow(mean) * skin
    azimuth = np.degrees(np.arctan2(x, z))
    line = np.interp(azimuth, HAIRLINE[:, 0], HAIRLINE[:, 1])
    masks["scalp_hair"] = smooth(y - line, -0.35, 0.45) * skin * (1 - np.clip(2 * ears, 0, 1))
    masks["mouth_cavity"] = np.where(on[1], 1 - np.where(on[0], masks["lip"], 0.0), 0.0)
    gum_zone = smooth(z, 7.2, 8.2)  # the front wall of the cavity, behind the lips, is pink
    masks["gum"] = masks["mouth_cavity"] * gum_zone * 0.6
    # little light reaches the back of the mouth: tongue and molars fade to the cavity's colour with depth
    masks["mouth_cavity"] += (on[3] | on[4] | on[5]).astype(float)
    masks["teeth"] = (on[3] | on[4]) * (1 - 0.75 * smooth(z, 7.2, 5.0))
    masks["tongue"] = on[5] * (1 - 0.85 * smooth(z, 7.8, 4.5))
    masks["lash"] = on[6].astype(float)
    angle = np.full(n, 999.0)
    angle[skin_count : skin_count + 2 * len(eye_angle)] = np.tile(eye_angle, 2)
    masks["sclera"] = on[2].astype(float)
    masks["iris"] = smooth(angle, 23.4, 21.6)
    masks["pupil"] = smooth(angle, 8.2, 7.0)
    glint = sided - (ball[0] + ball[1] * np.array([0.0, np.sin(np.deg2rad(11)), np.cos(np.deg2rad(11))]))
    masks["catch_light"] = 0.85 * smooth(np.linalg.norm(glint, axis=1), 0.11, 0.05) * on[2]
    stack = np.stack([masks[k] for k in PAINTS])
    stack = np.clip((stack + stack[:, mirror]) / 2, 0, 1)
    albedo = np.zeros((n, 3))
    for mask, colour in zip(stack, COLOURS.values(), strict=True):
        albedo += mask[:, None] * (np.array(colour) ** 2.2 - albedo)
    # MakeHuman's iris has no texture: a darker rim makes it read as an eye
    limbus = smooth(angle, 17.0, 21.6) * smooth(angle, 23.4, 21.6)
    albedo *= 1 - 0.45 * limbus[:, None]
    return list(PAINTS), stack, np.clip(albedo, 0, 1) ** (1 / 2.2)


def _ball_centre(mean: np.ndarray, skin_count: int, eye_angle: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the left eyeball, from its pole and its ring at 90 degrees."""
    ball = mean[skin_count : skin_count + len(eye_angle)]
    centre = ball[np.isclose(eye_angle, 90.0)].mean(0)
    return centre, float(np.linalg.norm(ball[0] - centre))
