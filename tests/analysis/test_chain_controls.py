"""Controls through the whole chain: faces are rendered, read by classifiers whose reaction is known, stored, analysed.

Two kinds. Some read the crops of the pictures. Others read the mesh behind a picture: they know every picture of the study
by its bytes (rendering is the same, byte for byte, each time), and answer with what its edit realised.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from morphsym import pipeline
from morphsym.analysis import Analysis, AnalysisOptions, require_manipulation
from morphsym.classifiers import Classifier, ClassifierSpec
from morphsym.experiment import stages
from morphsym.experiment.run import one_thread
from morphsym.experiment.study import Study, Units, run_study
from morphsym.faces import load_model
from morphsym.intervention import Design

LABELS = ("happiness", "surprise", "neutral")
STUDY = Study(
    sample=8, expressions=LABELS[:2], design=Design(strengths=(1.0,), arms=("baseline", "null", "unilateral", "matched")),
    size=96, seed=5, pose_sd=(0.0, 0.0, 0.0),
)  # fmt: skip
SCALE = 2.0  # logit per millimetre on the mesh


def picture_asymmetry(x: Tensor) -> Tensor:
    """Less where the face differs from its mirror image."""
    return -100 * (x - x.flip(-1)).abs().mean((1, 2, 3))


def picture_right_half(x: Tensor) -> Tensor:
    """Brightness of the lower face on the subject's right, clear of the midline: an edit of the left leaves it alone."""
    return 300 * x[:, :, 40:, :26].mean((1, 2, 3))


def constant(x: Tensor) -> Tensor:
    return torch.zeros(len(x))


def answer(values: Tensor) -> Tensor:
    """Logits whose centred value, for both emotions, is ``values``."""
    return values[:, None] * torch.tensor([1.0, 1.0, -2.0])


def picture_reader(read: Callable[[Tensor], Tensor]) -> Classifier:
    spec = ClassifierSpec(
        id=read.__name__, backend="python", factory="x:y", labels=LABELS, input_size=(64, 64),
        crop={"kind": "align", "margin": 1.1},
    )  # fmt: skip
    return Classifier(spec, lambda x: answer(read(x)))


class MeshReader:
    """A classifier of whole pictures that answers with a quantity of the mesh behind each."""

    def __init__(self, name: str, known: dict[bytes, float]) -> None:
        self.known = known
        self.spec = SimpleNamespace(id=name, labels=LABELS, label_emotions=LABELS, sha256="", backend="python")

    def __call__(self, images: Tensor, landmarks: Tensor) -> Tensor:
        return answer(torch.tensor([self.known[image.numpy().tobytes()] for image in images]))


def mesh_readers() -> list[MeshReader]:
    model = load_model(STUDY.model)
    known: dict[str, dict[bytes, float]] = {"mesh_asymmetry": {}, "mesh_intensity": {}, "mesh_right_half": {}}
    rng = np.random.default_rng(0)
    with one_thread():
        for plan in stages.intervene(Units(STUDY, model), model, STUDY.design):
            made = stages.render_plan(model, plan, "auto")  # type: ignore[arg-type]
            for image, i in zip(made.images, np.flatnonzero(made.rendered), strict=True):
                r, key = made.plan.realised, image.numpy().tobytes()
                noise = SCALE * 0.01 * float(rng.normal())  # of the measurement, 0.01 mm; equal pictures read equal
                for name, value in zip(known, (-r.asymmetry[i], r.intensity[i], r.right[i]), strict=True):
                    known[name].setdefault(key, SCALE * float(value) + noise)
    return [MeshReader(name, values) for name, values in known.items()]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    out = tmp_path_factory.mktemp("chain") / "results"
    readers = [*(picture_reader(f) for f in (picture_asymmetry, picture_right_half, constant)), *mesh_readers()]
    run_study(STUDY, out, classifiers=readers, workers=1)  # type: ignore[arg-type]
    options = AnalysisOptions(permutations=499, bootstrap=999, outcomes=("logit",))
    analysis, report = pipeline.analyze_results(out, options)
    assert report.is_file()
    assert (out / "analysis" / "effects.csv").is_file()
    return analysis


def verdict(chain: Analysis, name: str) -> pd.Series:
    return chain.verdicts.set_index("classifier").loc[name]


def effect(chain: Analysis, name: str, contrast: str, side: str = "both") -> pd.Series:
    e = chain.effects[(chain.effects["classifier"] == name) & (chain.effects["contrast"] == contrast)]
    return e[(e["side"] == side) & (e["emotion"] == "all") & (e["test"] == "wilcoxon")].iloc[0]


@pytest.mark.parametrize("name", ["picture_asymmetry", "mesh_asymmetry"])
def test_asymmetry_is_found(chain: Analysis, name: str) -> None:
    assert effect(chain, name, "AE")["estimate"] < 0
    assert effect(chain, name, "AE")["p_value"] < 0.01  # all eight people: 2 / 2**8
    assert abs(effect(chain, name, "IE")["estimate"]) < 0.3 * abs(effect(chain, name, "AE")["estimate"])


@pytest.mark.parametrize("name", ["mesh_intensity", "mesh_right_half"])
def test_an_amount_of_expression_is_no_asymmetry(chain: Analysis, name: str) -> None:
    assert effect(chain, name, "IE")["estimate"] < -0.5
    assert verdict(chain, name)["asymmetry"] == "equivalent"


@pytest.mark.parametrize("name", ["mesh_right_half", "picture_right_half"])
def test_one_that_looks_at_the_untouched_half_does_not_see_the_edit(chain: Analysis, name: str) -> None:
    left, right = (effect(chain, name, "TE", side)["estimate"] for side in ("left", "right"))
    assert abs(left) < 0.1 * abs(right)


def test_a_constant_is_equivalent_to_no_effect(chain: Analysis) -> None:
    v = verdict(chain, "constant")
    assert (v["total"], v["asymmetry"]) == ("equivalent", "equivalent")


def test_the_manipulation_happened(chain: Analysis) -> None:
    require_manipulation(chain.checks)
    assert set(chain.checks["check"]) <= {"", "ok"}
