"""What is on disk is what installs."""

import tomllib
from pathlib import Path

import morphsym
from morphsym import resources

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed():
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "morphsym").rglob("__init__.py")}
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert found | {"morphsym_cli", "morphsym_assets"} == listed


def test_every_asset_matches_a_pattern():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["morphsym_assets"]
    for path in (ROOT / "assets").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            relative = path.relative_to(ROOT / "assets")
            assert any(relative.match(p) for p in patterns), relative


def test_manifest_covers_and_matches_every_asset():
    import json

    told = json.loads((ROOT / "assets" / "manifest.json").read_text(encoding="utf-8"))["files"]
    on_disk = {
        str(p.relative_to(ROOT / "assets").as_posix())
        for p in (ROOT / "assets").rglob("*")
        if p.is_file() and p.suffix in (".npz", ".npy", ".onnx")
    }
    assert on_disk <= set(told)
    for name, entry in told.items():
        path = ROOT / "assets" / name
        assert resources.sha256(path) == entry["sha256"], name
        assert path.stat().st_size == entry["bytes"], name
        assert entry["licence"], name


def test_version_is_stated_once():
    assert PROJECT["project"]["version"] == morphsym.__version__


def test_public_names_exist():
    for name in morphsym.__all__:
        assert getattr(morphsym, name) is not None
