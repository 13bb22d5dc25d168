"""Detect the landmarks of the bundled sample photo and write ``assets/sample/astronaut.json``.

The sample photo is ``skimage.data.astronaut()`` (NASA, public domain; Eileen Collins), which ships inside the
scikit-image wheel. Its landmarks are stored so that ``morphsym demo`` needs no weights. Rerun with::

    python tools/make_sample.py path/to/face_landmarker.task

The file holds MediaPipe's 478 points in pixels (origin top left, pixel centres at half-integers) with MediaPipe's
relative depth, the 52 scores of its blendshape head (``_neutral`` and 51 ARKit names, without
``tongueOut``; sides of the subject), the 68 iBUG points taken from the 478, the
head transform, and what made them: the sha256 of the pixels and of the weights and MediaPipe's version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import mediapipe as mp
import numpy as np
from skimage import data

SUBSET_68 = (
    *(127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356),  # jaw, subject's right first
    *(70, 63, 105, 66, 107),  # the subject's right brow, outer to inner
    *(336, 296, 334, 293, 300),  # left brow, inner to outer
    *(168, 197, 5, 4),  # bridge of the nose
    *(98, 97, 2, 326, 327),  # under the nose
    *(33, 160, 158, 133, 153, 144),  # the subject's right eye, from the outer corner
    *(362, 385, 387, 263, 373, 380),  # left eye, from the inner corner
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
"""MediaPipe's vertex for each iBUG-68 landmark."""


def detect(image: np.ndarray, task: Path) -> dict:
    """MediaPipe's result on ``image`` (H, W, 3) uint8, as plain values."""
    options = mp.tasks.vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(task)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=1,
    )
    with mp.tasks.vision.FaceLandmarker.create_from_options(options) as landmarker:
        result = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
    if len(result.face_landmarks) != 1:
        raise SystemExit(f"expected one face in the sample photo, MediaPipe found {len(result.face_landmarks)}")
    height, width = image.shape[:2]
    points = np.array([[p.x * width, p.y * height, p.z * width] for p in result.face_landmarks[0]])
    return {
        "landmarks_478": np.round(points, 3).tolist(),
        "landmarks_68": np.round(points[list(SUBSET_68), :2], 3).tolist(),
        "blendshapes": {c.category_name: round(float(c.score), 6) for c in result.face_blendshapes[0]},
        "transform": np.round(np.asarray(result.facial_transformation_matrixes[0]), 6).tolist(),
    }


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", type=Path, help="MediaPipe's face_landmarker.task")
    parser.add_argument("-o", "--out", type=Path, default=root / "assets" / "sample" / "astronaut.json")
    args = parser.parse_args()
    image = np.ascontiguousarray(data.astronaut())
    sample = {
        "name": "astronaut",
        "image": "skimage.data.astronaut()",
        "credit": "Eileen Collins, NASA Great Images, public domain",
        "height": image.shape[0],
        "width": image.shape[1],
        "pixels_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "detector": "mediapipe",
        "detector_version": mp.__version__,
        "weights": "face_landmarker.task",
        "weights_sha256": hashlib.sha256(args.task.read_bytes()).hexdigest(),
        "subset_68": list(SUBSET_68),
        **detect(image, args.task),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(sample, separators=(",", ":")).replace('],"', '],\n"').replace(',"', ',\n"') + "\n")
    print(f"wrote {args.out}: {len(sample['landmarks_478'])} points, {len(sample['blendshapes'])} blendshapes")


if __name__ == "__main__":
    main()
