"""Look at the built head with instruments: visible eyeball in a blink, and what MediaPipe reads.

``python tools/head_check.py assets/heads/makehuman.npz face_landmarker.task [people]`` prints one JSON object.
"""

from __future__ import annotations

import json
import sys

import head_identity
import head_render
import numpy as np

SIZE = 400


def people(data: dict[str, np.ndarray], count: int, seed: int) -> np.ndarray:
    """Vertices (count, V, 3) of sampled adults: attributes to macro weights to scores, plus the residual."""
    rng = np.random.default_rng(seed)
    weights = head_identity.macro_weights(**head_identity.sample_attributes(count, rng))
    z = np.clip(rng.standard_normal((count, len(data["identity_basis"]))), -2.5, 2.5)
    scores = weights @ data["macro_scores"] + data["macro_offset"] + z @ data["residual_cholesky"].T
    return np.asarray(data["mean"] + np.einsum("nk,kvd->nvd", scores, data["identity_basis"].astype(np.float32)))


def main(head: str, task: str, count: int) -> None:
    """Print the measurements."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    data = dict(np.load(head))
    names = data["expression_names"].tolist()
    basis = data["expression_basis"].astype(np.float64)
    faces, part, albedo = data["faces"], data["part"], data["albedo"].astype(np.float64)
    heads = people(data, count, 1).astype(np.float64)

    def shape(**values: float) -> np.ndarray:
        return np.asarray(sum((v * basis[names.index(n)] for n, v in values.items()), 0 * basis[0]))

    def visible(vertices: np.ndarray, kind: int, yaw: float = 0.0, pitch: float = 0.0) -> int:
        index, _ = head_render.fragments(vertices, faces, SIZE, yaw, pitch)
        return int((part[index[index >= 0]] == kind).sum())

    blink = shape(eyeBlinkLeft=1, eyeBlinkRight=1)
    views = ((0, 0), (25, 0), (0, -15), (0, 15))
    open_eye = np.array([visible(h, 2) for h in heads])
    left_over = np.array([[visible(h + blink, 2, *view) for view in views] for h in heads])
    teeth = np.array([visible(h, 3) + visible(h, 4) for h in heads])
    report: dict[str, object] = {
        "people": count,
        "open_eye_pixels": [int(open_eye.min()), float(np.median(open_eye))],
        "blink_eyeball_pixels_max_by_view": left_over.max(0).tolist(),
        "blink_people_with_any": int((left_over.max(1) > 0).sum()),
        "cavity_pixels_at_rest_max": int(max(visible(h, 1) for h in heads)),
        "teeth_pixels_at_rest_max": int(teeth.max()),
        "teeth_at_rest_people": int((teeth > 0).sum()),
    }
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=task), output_face_blendshapes=True, num_faces=1
    )
    with vision.FaceLandmarker.create_from_options(options) as landmarker:

        def read(vertices: np.ndarray, yaw: float = 0.0) -> dict[str, float] | None:
            image = head_render.render(vertices, faces, albedo, SIZE, yaw)
            result = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
            return {c.category_name: c.score for c in result.face_blendshapes[0]} if result.face_blendshapes else None

        found = [read(h, yaw) is not None for h in heads[:30] for yaw in (-25, 0, 25)]
        report["mediapipe_found"] = f"{sum(found)}/{len(found)}"
        mean = data["mean"].astype(np.float64)
        rest = read(mean) or {}
        known = [n for n in names if n in rest]
        report["names_in_mediapipe"] = len(known)
        report["names_not_in_mediapipe"] = sorted(set(names) - set(known))
        table = {}
        for name in names:
            scores = read(mean + shape(**{name: 1.0}))
            if scores is None:
                table[name] = "no face"
                continue
            rise = {n: scores[n] - rest[n] for n in known}
            top = sorted(rise, key=rise.__getitem__, reverse=True)[:3]
            table[name] = " ".join(f"{n} {rise[n]:+.2f}" for n in top)
        report["reads"] = table
        sided = {}
        for name in (
            "mouthSmileLeft",
            "eyeBlinkLeft",
            "browOuterUpLeft",
            "mouthFrownLeft",
            "noseSneerLeft",
            "browDownLeft",
        ):
            wins = []
            for h in heads[:30]:
                scores = read(h + shape(**{name: 0.8}))
                base = read(h)
                if scores and base:
                    other = name.replace("Left", "Right")
                    wins.append(scores[name] - base[name] > scores[other] - base[other])
            sided[name] = f"{sum(wins)}/{len(wins)}"
        report["left_reads_higher_than_right"] = sided
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 100)
