"""Landmarks of the bundled head: MediaPipe's 478 and the iBUG 68, as points on triangles.

``python tools/head_landmarks.py assets/heads/makehuman.npz face_landmarker.task`` renders the mean head from several small
yaws and pitches, detects, casts each landmark back on the visible surface, averages and symmetrises, and writes
``tools/head_landmarks.json`` (points in cm in the model's frame). The build reads only that file, so it needs neither
MediaPipe nor a renderer; repeat the detection after a change of the mean head.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

CACHE = Path(__file__).with_name("head_landmarks.json")
VIEWS = [(yaw, pitch) for yaw in (-15, -8, 0, 8, 15) for pitch in (-8, 0, 8)]
SIZE = 768
# MediaPipe's vertex for each iBUG-68 landmark, as widely used; each was looked at on a render of the head
SUBSET_68 = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356, 70, 63, 105, 66, 107,
    336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373,
    380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
IRIS = tuple(range(468, 478))


def closest(points: np.ndarray, tri: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest triangle (n,) among ``allowed`` (n, F) and barycentric weights (n, 3) of its nearest point."""
    import trimesh

    index, weights = [], []
    for p, mask in zip(points, allowed, strict=True):
        near = np.flatnonzero(mask & (np.linalg.norm(tri.mean(1) - p, axis=1) < 3.0))
        feet = trimesh.triangles.closest_point(tri[near], np.broadcast_to(p, (len(near), 3)))
        k = int(((feet - p) ** 2).sum(1).round(12).argmin())
        b = np.clip(trimesh.triangles.points_to_barycentric(tri[near[k]][None], feet[k : k + 1])[0], 0, 1)
        index.append(near[k])
        weights.append(b / b.sum())
    return np.array(index), np.array(weights)


def embed(
    mean: np.ndarray, faces: np.ndarray, part: np.ndarray, mirror: np.ndarray, jaw_open: np.ndarray
) -> dict[str, np.ndarray]:
    """The npz's landmark arrays, from the cached points. Left landmarks are the exact mirror of the right ones."""
    if not CACHE.is_file():
        print("no tools/head_landmarks.json yet: landmarks left at vertex 0", file=sys.stderr)
        zero, first = np.zeros(478, np.int32), np.tile(np.array([1, 0, 0], np.float32), (478, 1))
        return {"landmarks68_triangle": zero[:68], "landmarks68_barycentric": first[:68],
                "landmarks478_triangle": zero, "landmarks478_barycentric": first}  # fmt: skip
    cache = json.loads(CACHE.read_text())
    points, pair = np.array(cache["points"]), np.array(cache["mirror"])
    tri = mean[faces]
    normal = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    centre = tri.mean(1)
    skin = (part == 0) & (normal[:, 2] > -0.3)
    lower = jaw_open[faces].mean(1)[:, 1] < -0.5 * np.abs(jaw_open[:, 1]).max()
    allowed = np.broadcast_to(skin, (478, len(faces))).copy()
    lips = list(INNER_UPPER[1:-1])
    allowed[lips] = skin & ~lower
    allowed[list(INNER_LOWER)] = skin & lower
    allowed[list(IRIS)] = part == 2
    del centre
    triangle, weights = closest(points, tri, allowed)
    # the mirrored triangle of each triangle, with its corners' order
    key = {tuple(sorted(f)): k for k, f in enumerate(faces.tolist())}
    for right in range(478):
        left = pair[right]
        if points[right, 0] < 0 and left != right:
            image = mirror[faces[triangle[right]]]
            t = key[tuple(sorted(image.tolist()))]
            triangle[left] = t
            weights[left] = [weights[right][image.tolist().index(c)] for c in faces[t].tolist()]
    subset = list(SUBSET_68)
    return {
        "landmarks68_triangle": triangle[subset].astype(np.int32),
        "landmarks68_barycentric": weights[subset].astype(np.float32),
        "landmarks478_triangle": triangle.astype(np.int32),
        "landmarks478_barycentric": weights.astype(np.float32),
    }


def detect(head: str, task: str) -> None:
    """Write the cache from renders of the head's mean."""
    import head_render
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision
    from scipy.optimize import linear_sum_assignment

    data = np.load(head)
    mean, faces, albedo = data["mean"].astype(float), data["faces"], data["albedo"].astype(float)
    options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_path=task), num_faces=1)
    found: list[np.ndarray] = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for yaw, pitch in VIEWS:
            for flip in (False, True):  # the mirror image of a symmetric head is the head from the other side
                image = head_render.render(mean, faces, albedo, SIZE, yaw, pitch)
                image = np.ascontiguousarray(image[:, ::-1]) if flip else image
                result = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
                if not result.face_landmarks:
                    print("no face at", yaw, pitch, flip, file=sys.stderr)
                    continue
                pixels = np.array([[p.x * SIZE, p.y * SIZE] for p in result.face_landmarks[0]])
                # (a flipped picture shows the head with the opposite yaw)
                found.append(cast(mean, faces, pixels, -yaw if flip else yaw, pitch))
    stack = np.stack(found)
    points = np.nanmedian(stack, axis=0)
    spread = np.nanmedian(np.linalg.norm(stack - points, axis=2))
    image = points * [-1, 1, 1]
    pair = linear_sum_assignment(np.linalg.norm(points[:, None] - image[None], axis=2))[1]
    if not np.array_equal(pair[pair], np.arange(478)):
        raise SystemExit("the landmarks found are too asymmetric to be paired")
    points = (points + image[pair]) / 2
    CACHE.write_text(
        json.dumps({"views": len(found), "spread_cm": round(float(spread), 3), "mirror": pair.tolist(),
                    "points": points.round(4).tolist()}) + "\n"
    )  # fmt: skip
    print(f"{len(found)} views, median spread {spread:.3f} cm, missing {np.isnan(stack).mean():.3f}")


def cast(mean: np.ndarray, faces: np.ndarray, pixels: np.ndarray, yaw: float, pitch: float) -> np.ndarray:
    """Head-frame points (478, 3) seen at ``pixels``; off the head, the nearest silhouette point (NaN beyond 0.6 cm)."""
    import head_render

    scale = 2
    index, bary = head_render.fragments(mean, faces, SIZE * scale, yaw, pitch)
    rows, cols = np.nonzero(index >= 0)
    out = np.full((len(pixels), 3), np.nan)
    for k, (x, y) in enumerate(pixels * scale):
        i, j = int(y), int(x)
        if not (0 <= i < SIZE * scale and 0 <= j < SIZE * scale and index[i, j] >= 0):
            d = (rows + 0.5 - y) ** 2 + (cols + 0.5 - x) ** 2
            best = int(d.argmin())
            if np.sqrt(d[best]) > 0.6 * scale * SIZE * head_render.FOCAL / head_render.DISTANCE:
                continue
            i, j = rows[best], cols[best]
        out[k] = bary[i, j] @ mean[faces[index[i, j]]]
    return out


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    detect(sys.argv[1], sys.argv[2])
