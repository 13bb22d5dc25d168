"""Make docs/images/arms.png, the picture in the README, with the tool itself: ``python tools/readme_picture.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import morphsym as ms
from morphsym.experiment.images import to_uint8

SIZE = 224
ARMS = (("baseline", 0.0), ("unilateral", 0.5), ("unilateral", 1.0), ("matched", 1.0))
PEOPLE = (("happiness", 7), ("surprise", 11))


def main(out: Path) -> None:
    """One row a unit: factual, left half weakened by 0.5 and by 1, both halves weakened to the same total."""
    model = ms.load_model("makehuman")
    fits = ms.fit([ms.sample_photo()], model, landmarks=ms.sample_landmarks())
    units = ms.photo_units(fits, model)
    for emotion, seed in PEOPLE:
        units += ms.sample_units(1, [emotion], model, seed=seed)
    design = ms.Design(sides=("left",), strengths=(0.5, 1.0), arms=("baseline", "unilateral", "matched"))
    rows = []
    for rendered in ms.render(ms.intervene(units, design, model), model):
        at = {(c.arm, c.strength): image for c, image in zip(rendered.plan.conditions, rendered.images, strict=True)}
        cells = [Image.fromarray(to_uint8(at[key])).resize((SIZE, SIZE), Image.Resampling.LANCZOS) for key in ARMS]
        rows.append(np.concatenate([np.asarray(c) for c in cells], axis=1))
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(__file__).resolve().parent.parent / "docs" / "images" / "arms.png")
