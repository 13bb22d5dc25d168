"""Looks at photo counterfactuals: a contact sheet of every fit's arms, and measures of what can go wrong.

    python tools/photo_sheet.py FITS [-o SHEET.jpg] [--width 1400]

One row a face: the photo, one side weakened by half and wholly, both sides, then edits that show what the photo hid
(a mouth that opens, eyes that shut). Printed a face: the largest change of the null arm, the largest leak, and the share
of edited pixels with a colour that the photo does not have within 1 cm (grey rims, smears and holes are such).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from morphsym.experiment.stages import forward
from morphsym.experiment.units import FailedUnit, photo_unit
from morphsym.faces import load_model
from morphsym.fitting import store
from morphsym.intervention.edit import edit
from morphsym.rendering.photos import PhotoScene

MARGIN = 0.06
"""Colours this far outside the photo's local range are strange (interpolation overshoots a little)."""


def strange(image: np.ndarray, photo: np.ndarray, pixels_per_cm: float) -> float:
    """Share of the pixels of ``image`` (H, W, 3) that differ from ``photo`` with a colour it lacks within 1 cm."""
    size = 2 * max(1, round(pixels_per_cm)) + 1
    low = minimum_filter(photo, (size, size, 1)) - MARGIN
    high = maximum_filter(photo, (size, size, 1)) + MARGIN
    changed = np.abs(image - photo).max(-1) > 0.02
    wrong = ((image < low) | (image > high)).any(-1) & changed
    return float(wrong.sum() / max(changed.sum(), 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits")
    parser.add_argument("-o", "--out", default="sheet.jpg")
    parser.add_argument("--width", type=int, default=1400)
    options = parser.parse_args()
    model = load_model()
    names = list(model.sided.names)
    rows = []
    for fit in store.load_fits(options.fits):
        unit = photo_unit(fit, model)
        if isinstance(unit, FailedUnit):
            print(f"{fit.name}: {unit.reason}")
            continue
        assert unit.photo is not None
        arms = [edit(model.sided, unit.expression, s, x) for s in ("left", "right", "both") for x in (0.5, 1.0)]
        more = []
        for change in ({"jawOpen": 0.5}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}):
            c = unit.expression.copy()
            for key, value in change.items():
                for name in (key,) if key in names else (f"{key}.left", f"{key}.right"):
                    c[names.index(name)] = value
            more.append(c)
        scene = PhotoScene(unit, model)
        shapes = np.stack([unit.expression, *arms, *more])
        images, _, leak = scene.render(forward(model, unit, shapes), shapes)
        pictures = images.permute(0, 2, 3, 1).numpy()
        photo = scene.photo
        odd = [strange(x, photo, scene.pixels_per_cm) for x in pictures[1 : 1 + len(arms)]]
        new = [strange(x, photo, scene.pixels_per_cm) for x in pictures[1 + len(arms) :]]
        print(
            f"{fit.name}: null {np.abs(pictures[0] - photo).max():.4f}, leak {leak[: 1 + len(arms)].max():.4f}, "
            f"strange colours {max(odd):.2%} of the edited pixels at most ({max(new):.2%} where mouth or lids are filled)"
        )
        tiles = [photo, *(pictures[1 + k] for k in (0, 1, 3, 5, 6, 7))]
        rows.append(np.concatenate(tiles, 1))
    if not rows:
        raise SystemExit(f"{options.fits} holds no usable fit")
    sheet = Image.fromarray((np.concatenate(rows, 0) * 255 + 0.5).astype(np.uint8))
    height = round(sheet.height * options.width / sheet.width)
    sheet.resize((options.width, height), Image.Resampling.LANCZOS).save(Path(options.out), quality=88)


if __name__ == "__main__":
    main()
