"""--memory and running out of it: smaller batches, said and recorded, and the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from morphsym import rendering
from morphsym.classifiers import Classifier, load_classifier
from morphsym.errors import UsageError
from morphsym.experiment import stages, units
from morphsym.experiment.store import Results
from morphsym.experiment.study import Study, run_study
from morphsym.intervention import Design

STUDY = Study(
    sample=2,
    expressions=("happiness",),
    design=Design(strengths=(0.5, 1.0)),
    classifiers=("mini_xception",),
    size=64,
    device="cpu",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_study(STUDY, tmp_path_factory.mktemp("memory") / "r", workers=1)


def digests(results: Results) -> Any:
    return results.manifest["sha256"]


def test_a_budget_makes_smaller_batches_and_the_same_rows(whole: Results, tmp_path: Path) -> None:
    said = whole.manifest["memory"]
    assert said["batch"] == said["pictures"] == STUDY.design.count(0, 1)
    budget = said["kept"] + 3 * said["each"]
    small = run_study(STUDY, tmp_path / "r", workers=1, memory=budget)
    assert small.manifest["memory"]["batch"] == 3
    assert small.manifest["memory"]["needed"] <= budget
    assert digests(small) == digests(whole)
    assert small.manifest["spec_sha256"] == whole.manifest["spec_sha256"]


def test_too_little_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="need at least"):
        run_study(STUDY, tmp_path / "r", memory="1MB")
    with pytest.raises(UsageError, match="must be an amount such as"):
        run_study(STUDY, tmp_path / "r", memory="lots")
    assert not (tmp_path / "r").exists()


def test_out_of_memory_while_rendering(whole: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is halved, the user is told, the manifest records it, and the rows are the same bytes."""
    good = rendering.render

    def scarce(vertices: torch.Tensor, *more: Any, **how: Any) -> Any:
        if len(vertices) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return good(vertices, *more, **how)

    monkeypatch.setattr(units.rendering, "render", scarce)
    with pytest.warns(RuntimeWarning, match="out of memory with .* pictures at once: went on with"):
        results = run_study(STUDY, tmp_path / "r", workers=1)
    assert digests(results) == digests(whole)
    notes = json.loads((results.path / "manifest.json").read_text())["notes"]
    assert notes
    assert all(n.startswith("out of memory with") for n in notes)


def test_not_even_one_picture_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conditions fail, with the reason in their rows; nothing is substituted."""

    def none(*more: Any, **how: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(units.rendering, "render", none)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        conditions = run_study(STUDY, tmp_path / "r", workers=1).conditions()
    assert set(conditions["status"]) == {"failed"}
    assert conditions["reason"].str.contains("a single picture does not fit into memory").all()


def test_out_of_memory_while_classifying() -> None:
    """Asked again with fewer pictures, said aloud: a network's last bits hang on its batch."""
    real = load_classifier("mini_xception")

    def network(x: torch.Tensor) -> Any:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real.network(x)

    images, marks = torch.rand(3, 3, 64, 64), torch.rand(3, 68, 2) * 40 + 10
    pictures = type("Pictures", (), {"names": ["a", "b", "c"], "images": images, "landmarks": marks})
    with pytest.warns(RuntimeWarning, match="mini_xception: out of memory with 3 pictures at once"):
        answers, failures = stages.ask(pictures, [Classifier(real.spec, network)])  # type: ignore[arg-type]
    assert not failures
    torch.testing.assert_close(torch.from_numpy(answers[0].logits), real(images, marks), rtol=1e-4, atol=1e-4)
