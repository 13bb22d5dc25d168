"""Where things are on the head: detail region, PCA metric, paint masks and the mean colour."""

from __future__ import annotations

import numpy as np
from head_mesh import Builder, Polygon
from head_source import Source, sample_mask

PAINTS = ("skin", "lip", "brow", "lashline", "iris", "pupil", "sclera", "teeth", "tongue", "mouth_cavity", "lash",
          "scalp_hair", "catch_light", "nostril", "blush")  # fmt: skip


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
        face = c[2] > 9.5 and 61.0 < c[1] < 79.0 and normal[2] > 0.2 and size > 0.22
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


def paint(source, mean, faces, part, mirror, vertex_uv, skin_count, eye_angle, expression):
    n = len(mean)
    masks = {k: np.zeros(n) for k in PAINTS}
    vparts = {}
    for k in range(7):
        v = np.zeros(n, bool)
        v[np.unique(faces[part == k])] = True
        vparts[k] = v
    lips = sample_mask(source.mask("lips"), vertex_uv)
    masks["lip"] = lips * (vparts[0])
    masks["mouth_cavity"] = (vparts[1] & ~vparts[0]).astype(float)
    masks["teeth"] = (vparts[3] | vparts[4]).astype(float)
    masks["tongue"] = vparts[5].astype(float)
    masks["lash"] = vparts[6].astype(float)
    ang = np.full(n, 999.0)
    ang[skin_count:] = np.tile(eye_angle, 2)
    masks["pupil"] = smooth(ang, 8.2, 7.0)
    masks["iris"] = smooth(ang, 23.4, 21.6) - masks["pupil"]
    masks["sclera"] = vparts[2] - masks["iris"] - masks["pupil"]
    masks["skin"] = vparts[0] * (1 - masks["lip"])
    colour = {"skin": (0.80, 0.62, 0.53), "lip": (0.70, 0.40, 0.37), "iris": (0.36, 0.25, 0.16), "pupil": (0.02, 0.02, 0.02),
              "sclera": (0.90, 0.88, 0.86), "teeth": (0.90, 0.87, 0.80), "tongue": (0.68, 0.36, 0.36),
              "mouth_cavity": (0.22, 0.07, 0.07), "lash": (0.08, 0.06, 0.05)}
    albedo = np.zeros((n, 3))
    for k, c in colour.items():
        albedo += masks[k][:, None] * np.array(c)
    return list(PAINTS), np.stack([masks[k] for k in PAINTS]), np.clip(albedo, 0, 1)
