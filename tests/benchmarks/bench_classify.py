"""How fast classifiers are, and how much of it is preprocessing: crop, colour, normalisation.

Run as ``python -m tests.benchmarks.bench_classify``. The baseline of each preprocessing row is the usual way in this
field, one picture at a time: PIL's crop and resize, numpy's normalisation. Ratios are of one run; absolute times
depend on who else uses the machine: ``cpu --processor-time`` with ``OMP_NUM_THREADS=1`` counts only our own. The networks
that are not bundled are untrained: speed does not depend on their parameters.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from morphsym.classifiers import Classifier, catalogue, load_classifier
from morphsym.classifiers.adapters.torch_module import resolve
from morphsym.classifiers.crops import crop_matrix
from morphsym.classifiers.preprocess import preprocess
from tests.classifiers.faces import landmarks, picture

COMMAND = "python -m tests.benchmarks.bench_classify"
NAMES = ("mini_xception", "face_expression_net", "ddamfn_pp_affectnet8", "dan_affectnet8", "emonext_tiny", "emonet_8",
         "poster_v2_affectnet8", "residual_masking_network", "segmentation_vgg19")  # fmt: skip
BATCH = 32
SIZE = 224


Clock = Callable[[], float]


def fastest(work: Callable[[], Any], clock: Clock, seconds: float = 0.5) -> float:
    """The shortest of as many runs as fit in ``seconds`` (at least three), in seconds of ``clock``."""
    work()
    best, end, n = float("inf"), clock() + seconds, 0
    while n < 3 or clock() < end:
        start = clock()
        work()
        best, n = min(best, clock() - start), n + 1
    return best


def one_by_one(images: np.ndarray, boxes: np.ndarray, c: Classifier) -> np.ndarray:
    """(B, C, h, w): what a script with PIL and numpy does. ``images`` (B, H, W, 3) bytes, ``boxes`` (B, 4)."""
    h, w = c.spec.input_size
    out = []
    for image, box in zip(images, boxes, strict=True):
        crop = Image.fromarray(image).crop(tuple(box)).resize((w, h), Image.Resampling.BILINEAR)
        if c.spec.colour == "grey":
            crop = crop.convert("L")
        x = np.asarray(crop, np.float32).reshape(h, w, -1) / 255 * c.spec.scale
        x = (x - np.asarray(c.spec.mean, np.float32)) / np.asarray(c.spec.std, np.float32)
        out.append(x.transpose(2, 0, 1))
    return np.stack(out)


def classifier(name: str, device: str) -> Classifier:
    """The bundled ones as they are; the others untrained."""
    spec = catalogue()[name]
    if spec.source.startswith("asset:"):
        return load_classifier(name, device)
    torch.manual_seed(0)
    network = resolve(spec.factory or "", name)(**spec.factory_args)
    return Classifier(spec, network.eval().requires_grad_(False).to(device), device)


def benches(
    device: str = "cpu", names: tuple[str, ...] = NAMES, clock: Clock = time.perf_counter
) -> Iterator[dict[str, Any]]:
    """Rows {name, value, unit, baseline, ratio, command}: images a second, and preprocessing's share of the time."""
    pictures, anchors = picture(SIZE, BATCH).to(device), landmarks(SIZE, BATCH).to(device)
    as_bytes = (pictures.cpu().permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)

    def wait(value: Any) -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    for name in names:
        c = classifier(name, device)
        with torch.inference_mode():
            n = BATCH if device != "cpu" or c.spec.source.startswith("asset:") else 8
            images, points = pictures[:n], anchors[:n]
            whole = fastest(lambda c=c, i=images, p=points: wait(c(i, p)), clock)
            before = fastest(lambda c=c, i=images, p=points: wait(preprocess(i, p, c.spec)), clock)
        matrix = crop_matrix(points.cpu(), c.spec).numpy()
        size = np.array(c.spec.input_size[::-1])
        low, high = matrix[:, :, 2], matrix[:, :, 2] + matrix[:, :, :2] @ size
        boxes = np.concatenate([low, high], 1).round().astype(int)
        scripted = fastest(lambda c=c, boxes=boxes, n=n: one_by_one(as_bytes[:n], boxes, c), clock)
        what = f"{name}, {c.spec.input_size[0]}², batch {n}, {device}"
        yield {"name": f"classify: {what}", "value": n / whole, "unit": "images/s", "baseline": None, "ratio": None,
               "command": COMMAND}  # fmt: skip
        yield {"name": f"classify: preprocessing's share, {what}", "value": before / whole, "unit": "of the time",
               "baseline": None, "ratio": None, "command": COMMAND}  # fmt: skip
        yield {"name": f"classify: preprocessing alone, {what}", "value": n / before, "unit": "images/s",
               "baseline": n / scripted, "ratio": scripted / before, "command": COMMAND}  # fmt: skip


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    timer = time.process_time if "--processor-time" in sys.argv else time.perf_counter
    for row in benches(*arguments[:1], clock=timer):
        print(json.dumps(row))
