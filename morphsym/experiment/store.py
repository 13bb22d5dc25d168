"""The results folder of DESIGN.md section 5: written shard by shard, each atomically; read back whole and checked.

While a study runs, ``manifest.json`` says ``running`` and every finished shard has ``predictions/part-NNNNN.parquet``
and then ``.shards/conditions-NNNNN.parquet``: the second is the mark that the shard is complete. :meth:`Results.finish`
joins the latter into ``conditions.parquet`` and sets the manifest to ``complete``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from ..errors import StoreError, UsageError
from .atomic import ensure_folder, write_text, writing

FORMAT = "morphsym.results"
VERSION = 1
PREDICTION_COLUMNS = ("condition", "classifier", "label", "emotion", "logit", "probability")
CONDITION_COLUMNS = (
    "condition",
    "unit",
    "subject",
    "source",
    "expression",
    "arm",
    "side",
    "strength",
    "region",
    "dose",
    "realised_asymmetry",
    "realised_intensity",
    "realised_left",
    "realised_right",
    "coverage",
    "leak",
    "status",
    "reason",
    "image",
)


class Results:
    """One results folder. Make with :meth:`create` to write, :meth:`open` to read."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    # ---------------------------------------------------------------- writing

    @classmethod
    def create(
        cls, path: str | Path, manifest: Mapping[str, Any], resume: bool = False, overwrite: bool = False
    ) -> Results:
        """A folder to write a study to. The manifest's ``spec_sha256`` says whether two runs are the same.

        An existing study is continued with ``resume`` when its specification is the same, replaced with ``overwrite``,
        and otherwise refused. A folder with foreign files is never touched.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise StoreError(f"cannot write to {path}: a file is in the way; choose another folder with -o")
        if path.is_dir() and any(path.iterdir()):
            old = cls._read_manifest(path, missing_ok=True)
            if old is None:
                raise StoreError(f"{path} is not empty and holds no morphsym results; choose another folder with -o")
            if overwrite:
                cls._clear(path)
            elif not resume:
                raise StoreError(
                    f"{path} already holds results ({old.get('status')}); continue them with --resume, "
                    "replace them with --overwrite, or choose another folder with -o"
                )
            elif old.get("spec_sha256") != manifest["spec_sha256"]:
                raise StoreError(
                    f"{path} holds results of another study ({_difference(old, manifest)}); "
                    "--resume needs the same options, otherwise choose another folder with -o"
                )
            else:
                return cls(path, old)
        ensure_folder(path)
        results = cls(path, dict(manifest) | {"format": FORMAT, "version": VERSION, "status": "running"})
        results.write_manifest()
        return results

    def lock(self) -> filelock.BaseFileLock:
        """The lock of the folder; :meth:`acquire_lock` fails at once when another run holds it."""
        return filelock.FileLock(self.path / ".lock", timeout=0)

    def acquire_lock(self) -> filelock.BaseFileLock:
        """Hold the folder for this run. Raises :class:`StoreError` when another run writes to it."""
        lock = self.lock()
        try:
            lock.acquire()
        except filelock.Timeout:
            raise StoreError(f"another run is writing to {self.path}; wait for it or choose another folder") from None
        return lock

    def write_manifest(self, **changes: Any) -> None:
        """Write ``manifest.json`` with ``changes``."""
        self.manifest |= changes
        write_text(self.path / "manifest.json", json.dumps(self.manifest, indent=2, allow_nan=False) + "\n")

    @property
    def complete(self) -> bool:
        return self.manifest.get("status") == "complete" and (self.path / "conditions.parquet").is_file()

    def has_shard(self, shard: int) -> bool:
        """Whether a shard's rows are all on disk and readable."""
        rows = self.path / ".shards" / f"conditions-{shard:05d}.parquet"
        return rows.is_file() and (self.path / "predictions" / f"part-{shard:05d}.parquet").is_file()

    def write_shard(self, shard: int, conditions: pd.DataFrame, predictions: pd.DataFrame) -> None:
        """Write one shard's rows: the predictions first, then the conditions, which mark it complete."""
        _write_parquet(self.path / "predictions" / f"part-{shard:05d}.parquet", predictions)
        _write_parquet(self.path / ".shards" / f"conditions-{shard:05d}.parquet", conditions)

    def finish(self, shards: int, **changes: Any) -> None:
        """Join the shards' conditions, and mark the study complete."""
        frames = [pd.read_parquet(self.path / ".shards" / f"conditions-{k:05d}.parquet") for k in range(shards)]
        conditions = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=CONDITION_COLUMNS)
        if conditions["condition"].duplicated().any():
            name = conditions["condition"][conditions["condition"].duplicated()].iloc[0]
            raise StoreError(f"condition {name!r} was computed twice; two subjects have the same name")
        _write_parquet(self.path / "conditions.parquet", conditions)
        self.write_manifest(status="complete", **changes)
        shutil.rmtree(self.path / ".shards", ignore_errors=True)

    def add_predictions(self, name: str, predictions: pd.DataFrame) -> None:
        """Add another classifier's predictions as ``predictions/part-<name>.parquet``."""
        _write_parquet(self.path / "predictions" / f"part-{name}.parquet", predictions)

    # ---------------------------------------------------------------- reading

    @classmethod
    def open(cls, path: str | Path) -> Results:
        """A finished study. Raises :class:`StoreError` for what is missing, half written or too new."""
        path = Path(path)
        if not path.exists():
            raise StoreError(f"there is no folder {path}; make one with: morphsym intervene -o {path}")
        if not path.is_dir():
            raise StoreError(f"{path} is a file, not a results folder; make one with: morphsym intervene -o {path}")
        manifest = cls._read_manifest(path, missing_ok=True)
        if manifest is None:
            what = "is empty" if not any(path.iterdir()) else "holds no manifest.json"
            raise StoreError(f"{path} {what}; expected the output of: morphsym intervene -o {path}")
        results = cls(path, manifest)
        if manifest.get("status") != "complete":
            raise StoreError(
                f"{path} is half written (a run stopped or still goes on); finish it with the same command and --resume"
            )
        if not (path / "conditions.parquet").is_file() or not results._parts():
            raise StoreError(f"{path} is damaged: conditions.parquet or predictions/ is missing; run the study again")
        return results

    def conditions(self) -> pd.DataFrame:
        """One row a condition."""
        return _read_parquet(self.path / "conditions.parquet", ("condition", "unit", "arm", "status"))

    def predictions(self) -> pd.DataFrame:
        """One row a condition × classifier × label, of all parts."""
        frames = [_read_parquet(p, PREDICTION_COLUMNS) for p in self._parts()]
        joined = pd.concat(frames, ignore_index=True)
        expected = set(self.manifest.get("classifiers", {}))
        if missing := expected - set(joined["classifier"].unique()):
            raise StoreError(
                f"{self.path} is damaged: no predictions of {', '.join(sorted(missing))}; run the study again"
            )
        return joined

    def _parts(self) -> list[Path]:
        return sorted((self.path / "predictions").glob("part-*.parquet"))

    @staticmethod
    def _read_manifest(path: Path, missing_ok: bool = False) -> dict[str, Any] | None:
        file = path / "manifest.json"
        if not file.is_file():
            if missing_ok:
                return None
            raise StoreError(f"{path} holds no manifest.json; expected the output of: morphsym intervene -o {path}")
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise StoreError(f"{file} cannot be read ({e}); run the study again") from None
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise StoreError(f"{file} is not a manifest of morphsym results; expected the output of morphsym intervene")
        version = manifest.get("version")
        if not isinstance(version, int) or version > VERSION:
            raise StoreError(
                f"{path} was written by a newer morphsym (format {version}, this one reads up to {VERSION}); "
                "update morphsym: pip install -U morphsym"
            )
        return manifest

    @staticmethod
    def _clear(path: Path) -> None:
        """Remove what a study wrote, and nothing else. The manifest goes last: it says that the folder is ours."""
        for name in ("predictions", ".shards", "images", "analysis"):
            shutil.rmtree(path / name, ignore_errors=True)
        for name in ("conditions.parquet", "manifest.json"):
            (path / name).unlink(missing_ok=True)


def _write_parquet(path: Path, frame: pd.DataFrame) -> None:
    with writing(path) as aside:
        frame.to_parquet(aside, index=False, compression="zstd")


def _read_parquet(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except Exception as e:  # pyarrow raises many kinds for a damaged file; all mean the same to the user
        raise StoreError(f"{path} cannot be read ({str(e).splitlines()[0]}); run the study again") from None
    if missing := [c for c in needed if c not in frame.columns]:
        raise StoreError(f"{path} lacks the column {missing[0]!r}; expected the output of morphsym intervene")
    return frame


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which settings differ between two manifests, in words."""
    a, b = (dict(_flat(m.get("spec", {}).get("resolved", {}))) for m in (old, new))
    names = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    told = [f"{k}: {a.get(k)!r} there, {b.get(k)!r} now" for k in names[:3]]
    return "; ".join(told) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "another specification"


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for k, v in value.items():
            yield from _flat(v, f"{prefix}.{k}" if prefix else str(k))
    else:
        yield prefix, value


def check_name(what: str, name: str) -> str:
    """``name`` if it can be part of a file name on every system."""
    if not name or any(c in name for c in '/\\:*?"<>|\0') or name.startswith("."):
        raise UsageError(f"{what} {name!r} cannot be used as a file name; use letters, digits, '.', '_' and '-'")
    return name
