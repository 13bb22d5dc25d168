"""The report as PDF, printed by a headless Chromium where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import InputError, MissingDependencyError, StoreError
from ..experiment.atomic import write_bytes

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
    "--mute-audio", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
"""Quiet: nothing is remembered, and no host is found, neither by the page nor by the browser's own housekeeping."""


def find_browser() -> str | None:
    """Path of a Chromium-like browser: ``$MORPHSYM_CHROMIUM``, else the first of :data:`NAMES` on the PATH."""
    given = os.environ.get("MORPHSYM_CHROMIUM")
    if given:
        return shutil.which(given)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def run_browser(arguments: list[str], timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run the browser headless, with a profile of its own that is thrown away.

    Raises :class:`MissingDependencyError` where there is no browser.
    """
    browser = find_browser()
    if browser is None:
        raise MissingDependencyError(
            "no Chromium found to print with; install it (apt install chromium) or open report.html and print it"
        )
    root = (
        ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    )  # Chromium refuses a sandbox as root
    with tempfile.TemporaryDirectory(prefix="morphsym-browser-", ignore_cleanup_errors=True) as profile:
        return subprocess.run(
            [browser, *FLAGS, *root, f"--user-data-dir={profile}", *arguments],
            capture_output=True, text=True, timeout=timeout, check=False, errors="replace",
        )  # fmt: skip


def write_pdf(html_path: Path) -> Path:
    """Print ``report.html`` to ``report.pdf`` beside it, atomically, and return its path.

    Raises :class:`InputError` where there is no page, :class:`MissingDependencyError` where no browser is installed,
    :class:`StoreError` where the browser fails.
    """
    page = Path(html_path).resolve()
    if not page.is_file():
        raise InputError(f"there is no report {html_path}; write it with: morphsym analyze RESULTS")
    final = page.with_suffix(".pdf")
    with tempfile.TemporaryDirectory(prefix="morphsym-pdf-") as folder:
        aside = Path(folder) / "report.pdf"
        try:
            done = run_browser([f"--print-to-pdf={aside}", "--no-pdf-header-footer", page.as_uri()])
        except (OSError, subprocess.TimeoutExpired) as e:
            raise StoreError(
                f"Chromium could not print {page.name} ({type(e).__name__}); open it and print it by hand"
            ) from None
        data = aside.read_bytes() if aside.is_file() else b""
        if not data.startswith(b"%PDF"):
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise StoreError(f"Chromium could not print {page.name} ({last[:200]}); open it and print it by hand")
        write_bytes(final, data)
    return final
