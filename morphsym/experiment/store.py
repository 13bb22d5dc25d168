"""The results folder of DESIGN.md section 5: written shard by shard, each atomically; read back whole and checked.

While a study runs, ``manifest.json`` says ``running``. A shard has ``predictions/part-NNNNN.parquet``, its rows of the
conditions in ``.shards/``, and at last ``.shards/NNNNN.json``, the mark that it is complete, with the sha256 of both.
:meth:`Results.finish` joins the conditions, shard by shard, into ``conditions.parquet``, moves the hashes into the
manifest and sets it to ``complete``. Where classifiers failed on single pictures, ``failures.parquet`` says which and why.

The folder may be a prefix of an object store (:mod:`.places`): the files and their order are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import StoreError, UsageError
from ..resources import sha256
from . import locks, places
from .atomic import ensure_folder, write_bytes, write_text, writing
from .tables import CONDITION_COLUMNS, FAILURE_COLUMNS, PREDICTION_COLUMNS, encode

FORMAT = "morphsym.results"
VERSION = 1
__all__ = ["CONDITION_COLUMNS", "FAILURE_COLUMNS", "FORMAT", "PREDICTION_COLUMNS", "VERSION", "Results", "check_name"]


class Results:
    """One results folder. Make with :meth:`create` to write, :meth:`open` to read."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    # ---------------------------------------------------------------- writing

    @classmethod
    def create(
        cls,
        path: str | Path,
        manifest: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        rerun: bool = False,
    ) -> Results:
        """A folder to write a study to. The manifest's ``spec_sha256`` says whether two runs are the same.

        An existing study is continued with ``resume`` when its specification is the same, replaced with ``overwrite``,
        and otherwise refused. With ``rerun`` a finished study of the same specification is given back as it is. A folder
        with foreign files is never touched.
        """
        path = places.place(path)
        if places.is_remote(path):
            with places.told(path):  # who may not ask, or cannot be reached, is told here
                path.exists()
        if path.exists() and not path.is_dir():
            raise StoreError(f"cannot write to {path}: a file is in the way; choose another folder with -o")
        if path.is_dir() and any(path.iterdir()):
            old = cls._read_manifest(path, missing_ok=True)
            if old is None:
                raise StoreError(f"{path} is not empty and holds no morphsym results; choose another folder with -o")
            if overwrite:
                with cls(path, old).acquire_lock():  # not under another run's feet
                    cls._clear(path)
            elif not resume and not (rerun and (old.get("status") == "complete" or not same(old, manifest))):
                raise StoreError(
                    f"{path} already holds results ({old.get('status')}); continue them with --resume, "
                    "replace them with --overwrite, or choose another folder with -o"
                )
            elif not same(old, manifest):
                raise StoreError(
                    f"{path} holds results of another study ({difference(old, manifest)}); "
                    "--resume needs the same options, otherwise choose another folder with -o"
                )
            else:
                return cls(path, old)
        ensure_folder(path)
        results = cls(path, dict(manifest) | {"format": FORMAT, "version": VERSION, "status": "running"})
        results.write_manifest()
        return results

    def acquire_lock(self) -> AbstractContextManager[None]:
        """Hold the folder for this run. Raises :class:`StoreError` when another run writes to it."""
        return locks.hold(self.path)

    def write_manifest(self, **changes: Any) -> None:
        """Write ``manifest.json`` with ``changes``."""
        self.manifest |= changes
        write_text(self.path / "manifest.json", json.dumps(self.manifest, indent=2, allow_nan=False) + "\n")

    def reload(self) -> None:
        """Read ``manifest.json`` again."""
        self.manifest = self._read_manifest(self.path) or self.manifest

    @property
    def complete(self) -> bool:
        return self.manifest.get("status") == "complete" and (self.path / "conditions.parquet").is_file()

    def has_shard(self, shard: int) -> bool:
        """Whether a shard's rows are all on disk, byte for byte as they were written."""
        mark = self._mark(shard)
        return mark is not None and all(
            (self.path / name).is_file() and digest_of(self.path / name) == digest for name, digest in mark.items()
        )

    def marked(self) -> set[int]:
        """The shards with a mark; whether their files are what it says is for :meth:`has_shard`."""
        names = [p.stem for p in listed(self.path / ".shards") if p.suffix == ".json"]
        return {int(n) for n in names if n.isdecimal()}

    def _mark(self, shard: int) -> dict[str, str] | None:
        try:
            mark = json.loads((self.path / ".shards" / f"{shard:05d}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return mark if isinstance(mark, dict) else None

    def write_shard(
        self,
        shard: int,
        conditions: bytes | pd.DataFrame,
        predictions: bytes | pd.DataFrame,
        failures: bytes | None = None,
    ) -> None:
        """Write one shard's rows (tables, or the bytes of Parquet files), and then the mark that it is complete."""
        files = {
            f"predictions/part-{shard:05d}.parquet": predictions,
            f".shards/conditions-{shard:05d}.parquet": conditions,
        }
        if failures is not None:
            files[f".shards/failures-{shard:05d}.parquet"] = failures
        mark = {}
        for name, rows in files.items():
            data = rows if isinstance(rows, bytes) else encode(rows)
            write_bytes(self.path / name, data)
            mark[name] = hashlib.sha256(data).hexdigest()
        write_text(self.path / ".shards" / f"{shard:05d}.json", json.dumps(mark))

    def finish(self, shards: int, **changes: Any) -> None:
        """Join the shards' conditions, one after the other, and mark the study complete."""
        marks = [self._mark(k) for k in range(shards)]
        if None in marks:
            raise StoreError(f"{self.path}: shard {marks.index(None)} is missing; run the study again with --resume")
        hidden = [sorted(n for n in mark or {} if n.startswith(".shards/conditions")) for mark in marks]
        conditions = [self.path / name for names in hidden for name in names]
        counts = self._join_conditions(conditions)
        hashes = {n: h for mark in marks for n, h in (mark or {}).items() if not n.startswith(".shards/")}
        hashes["conditions.parquet"] = digest_of(self.path / "conditions.parquet")
        failed = [self.path / n for mark in marks for n in (mark or {}) if n.startswith(".shards/failures")]
        if failed:
            tables = [read_table(p) for p in failed]
            hashes["failures.parquet"] = self.write_failures(pa.concat_tables(tables))
            counts["classifier_failures"] = sum(map(len, tables))
        stray = {p for p in self.parts() if f"predictions/{p.name}" not in hashes}
        for part in stray:  # of another way to cut the study, begun and overwritten
            part.unlink()
        self.write_manifest(status="complete", sha256=hashes, counts=counts, **changes)
        _remove_folder(self.path / ".shards")

    def _join_conditions(self, shards: list[Path]) -> dict[str, Any]:
        """Write ``conditions.parquet`` and count what is in it. Memory: one shard, and the names of the units."""
        schemas = [read_schema(p) for p in shards] or [pa.schema([(c, pa.string()) for c in CONDITION_COLUMNS])]
        try:
            joined = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowInvalid as e:
            raise StoreError(f"{self.path}: the shards' columns differ ({e}); run the study again") from None
        extra = sorted(set(joined.names) - set(CONDITION_COLUMNS))
        schema = pa.schema([joined.field(n).with_metadata({}) for n in (*CONDITION_COLUMNS, *extra)])
        units: set[str] = set()
        subjects: set[str] = set()
        reasons: Counter[str] = Counter()
        rows = failed = 0
        with (
            writing(self.path / "conditions.parquet") as aside,
            pq.ParquetWriter(aside, schema, compression="zstd", store_schema=False) as writer,
        ):
            for path in shards:
                table = read_table(path)
                mine = set(table["unit"].unique().to_pylist())
                twice = mine & units
                if twice or pc.count_distinct(table["condition"]).as_py() != len(table):
                    name = next(
                        (c for c, u in zip(*(table[n].to_pylist() for n in ("condition", "unit"))) if u in twice), ""
                    )
                    raise StoreError(f"condition {name!r} was computed twice; two subjects have the same name")
                units |= mine
                subjects |= set(table["subject"].unique().to_pylist())
                bad = table.filter(pc.not_equal(table["status"], "ok"))
                reasons.update(bad["reason"].to_pylist())
                rows, failed = rows + len(table), failed + len(bad)
                for name in schema.names:
                    if name not in table.column_names:
                        table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
                writer.write_table(table.select(schema.names).cast(schema))
        return {
            "conditions": rows,
            "failed": failed,
            "units": len(units),
            "subjects": len(subjects),
            "reasons": dict(reasons.most_common(100)),
        }

    def write_failures(self, table: pa.Table) -> str:
        """Write ``failures.parquet``; returns its sha256."""
        write_bytes(self.path / "failures.parquet", encode(table))
        return digest_of(self.path / "failures.parquet")

    # ---------------------------------------------------------------- reading

    @classmethod
    def open(cls, path: str | Path) -> Results:
        """A finished study. Raises :class:`StoreError` for what is missing, half written or too new."""
        path = places.place(path)
        if places.is_remote(path):
            with places.told(path):
                path.exists()
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
        if not (path / "conditions.parquet").is_file() or not results.parts():
            raise StoreError(f"{path} is damaged: conditions.parquet or predictions/ is missing; run the study again")
        return results

    def conditions(self) -> pd.DataFrame:
        """One row a condition."""
        return _read_parquet(self.path / "conditions.parquet", ("condition", "unit", "arm", "status"))

    def failures(self) -> pd.DataFrame:
        """One row a condition × classifier for which the classifier gave no answer, with its reason."""
        path = self.path / "failures.parquet"
        if not path.is_file():
            return pd.DataFrame({c: pd.Series(dtype="str") for c in FAILURE_COLUMNS})
        return _read_parquet(path, FAILURE_COLUMNS)

    def predictions(self, categories: bool = False) -> pd.DataFrame:
        """One row a condition × classifier × label, of all parts.

        With ``categories`` the columns of text are categorical, which takes a fraction of the memory.
        """
        if categories:
            tables = [
                _read_arrow(p, PREDICTION_COLUMNS, read_dictionary=list(PREDICTION_COLUMNS[:4])) for p in self.parts()
            ]
            whole = pa.concat_tables(tables).unify_dictionaries()
            del tables
            joined = whole.to_pandas(split_blocks=True, self_destruct=True)
        else:
            joined = pd.concat([_read_parquet(p, PREDICTION_COLUMNS) for p in self.parts()], ignore_index=True)
        expected = set(self.manifest.get("classifiers", {}))
        if missing := expected - set(joined["classifier"].unique()):
            raise StoreError(
                f"{self.path} is damaged: no predictions of {', '.join(sorted(missing))}; run the study again"
            )
        return joined

    def parts(self) -> list[Path]:
        """The files of the predictions."""
        found = listed(self.path / "predictions")
        return sorted(p for p in found if p.name.startswith("part-") and p.suffix == ".parquet")

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
            _remove_folder(path / name)
        for name in ("conditions.parquet", "failures.parquet", "manifest.json"):
            (path / name).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Hex sha256 of a file of the results, wherever they are."""
    if not places.is_remote(path):
        return sha256(path)
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()  # type: ignore[arg-type]


def read_table(path: Path, **options: Any) -> pa.Table:
    """A Parquet file of the results, wherever they are."""
    return pq.read_table(_source(path), **options)


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file of the results, wherever they are."""
    return pq.read_schema(_source(path))


def _source(path: Path) -> Any:
    return io.BytesIO(path.read_bytes()) if places.is_remote(path) else path


def listed(folder: Path) -> list[Path]:
    """What is in ``folder``; nothing where there is none."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_folder(folder: Path) -> None:
    if places.is_remote(folder):
        with contextlib.suppress(StoreError):
            places.remove(folder, recursive=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _read_parquet(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    return _read_arrow(path, needed).to_pandas()


def _read_arrow(path: Path, needed: tuple[str, ...], **options: Any) -> pa.Table:
    try:
        table = read_table(path, **options)
    except Exception as e:  # pyarrow raises many kinds for a damaged file; all mean the same to the user
        raise StoreError(f"{path} cannot be read ({str(e).splitlines()[0]}); run the study again") from None
    if missing := [c for c in needed if c not in table.column_names]:
        raise StoreError(f"{path} lacks the column {missing[0]!r}; expected the output of morphsym intervene")
    return table


def same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return bool(old.get("spec_sha256") == new["spec_sha256"])


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which settings differ between two manifests, in words."""
    a, b = (
        dict(_flat(m.get("spec", {}).get("resolved", {})))
        | {k: str(v)[:12] for k, v in m.get("files", {}).items()}
        | {"renderer used": m.get("renderer")}
        for m in (old, new)
    )
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
