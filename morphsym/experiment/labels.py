"""What a user knows of their photos: a CSV file joined to the fits by the photo's name.

::

    photo,subject,cohort,expression,age
    anna_smile.jpg,anna,patient,happiness,54
    ben_smile.jpg,ben,healthy,happiness,47

``photo`` is the file's name, with or without its ending, or the fit's name. ``subject`` joins the photos of one person
(by default each photo is a person), ``cohort`` are the strata of the photos' association, ``expression`` is what the photo
shows; every further column is recorded with the photo (sex and age, say, are
looked at for heterogeneity).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError, UsageError
from ..types import EMOTIONS, FaceFit


def read_labels(path: str | Path, fits: Sequence[FaceFit]) -> list[dict[str, Any]]:
    """The row of each of ``fits`` as a dictionary (without ``photo``; empty cells left out).

    Every fit needs a row, and every row a fit: a name that matches nothing is a typing error more often than not.
    Raises :class:`InputError` for a file that cannot be read, :class:`UsageError` for what it says.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; expected a CSV file with a column photo") from None
    except (OSError, UnicodeDecodeError, ValueError) as e:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path} cannot be read as CSV ({str(e).splitlines()[0]})") from None
    table.columns = [str(c).strip() for c in table.columns]
    if "photo" not in table.columns:
        raise UsageError(f"{path} has no column photo; its columns are {', '.join(table.columns) or 'none'}")
    table["photo"] = table["photo"].str.strip()
    if table["photo"].duplicated().any():
        raise UsageError(
            f"{path} has two rows for the photo {table.loc[table['photo'].duplicated(), 'photo'].iloc[0]!r}"
        )
    if "expression" in table.columns:
        bad = ~table["expression"].str.strip().isin(("", *EMOTIONS))
        if bad.any():
            row = table[bad].iloc[0]
            raise UsageError(
                f"{path}: expression must be one of {', '.join(EMOTIONS)}; {row['photo']} has {row['expression']!r}"
            )
    rows = {str(r["photo"]): r for r in table.to_dict("records")}
    used: set[str] = set()
    found: list[dict[str, Any]] = []
    for f in fits:
        names = (f.name, Path(f.photo).name, Path(f.photo).stem)
        name = next((n for n in names if n in rows), None)
        if name is None:
            raise UsageError(f"{path} has no row for the photo {Path(f.photo).name!r}; every fitted photo needs one")
        used.add(name)
        found.append({str(k): v.strip() for k, v in rows[name].items() if k != "photo" and v.strip()})
    if stray := set(rows) - used:
        raise UsageError(f"{path}: no fit is of the photo {sorted(stray)[0]!r} ({len(stray)} such rows); see fits.csv")
    numeric = {c for c in table.columns if c not in ("photo", "subject", "cohort", "expression") and _numbers(table[c])}
    return [{k: float(v) if k in numeric else v for k, v in row.items()} for row in found]


def _numbers(column: pd.Series) -> bool:
    """Whether a column is numbers throughout (empty cells aside)."""
    there = column[column.str.strip() != ""]
    return len(there) > 0 and bool(pd.to_numeric(there, errors="coerce").notna().all())
