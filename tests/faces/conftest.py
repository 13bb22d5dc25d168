"""The models that the tests of this room run on: the bundled head, and ICT-FaceKit where the shared data are."""

from __future__ import annotations

from pathlib import Path

import pytest

from morphsym import resources
from morphsym.faces import MorphableModel, load_model


@pytest.fixture(scope="session")
def ict_path(shared_data: Path) -> Path:
    return shared_data / "face_models" / "ict_facekit.npz"


@pytest.fixture(scope="session")
def head_path() -> Path:
    return resources.asset("heads/makehuman.npz")


@pytest.fixture(scope="session", params=["makehuman", pytest.param("ict", marks=pytest.mark.shared)])
def model(request: pytest.FixtureRequest) -> MorphableModel:
    if request.param == "ict":
        return load_model(request.getfixturevalue("ict_path"))
    return load_model()
