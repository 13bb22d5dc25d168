"""Shared by the tests of fitting: models, the sample photo, and the user's folder filled from ../shared/data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from morphsym import resources, weights
from morphsym.faces import MorphableModel, load_model


@pytest.fixture(scope="session")
def makehuman() -> MorphableModel:
    return load_model("makehuman")


@pytest.fixture(scope="session")
def ict(shared_data: Path) -> MorphableModel:
    return load_model(shared_data / "face_models" / "ict_facekit.npz")


@pytest.fixture(scope="session")
def sample() -> dict:
    return json.loads(resources.asset("sample/astronaut.json").read_text())


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut())


@pytest.fixture(scope="session")
def mediapipe_home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder that holds MediaPipe's weights."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MORPHSYM_HOME", str(home))
        weights.add("mediapipe", shared_data / "landmarks" / "face_landmarker.task")
    return home


@pytest.fixture
def with_mediapipe(mediapipe_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MORPHSYM_HOME", str(mediapipe_home))
    return mediapipe_home


MIRROR_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
     45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
     64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip
"""The landmark that is landmark i's mirror image."""
