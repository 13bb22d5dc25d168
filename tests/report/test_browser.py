"""The page in a real browser, where one is installed; and the PDF."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from morphsym.errors import InputError, MissingDependencyError
from morphsym.report import pdf, write_pdf

browser = pytest.mark.browser


@pytest.fixture(scope="session")
def chromium() -> str:
    found = pdf.find_browser()
    if found is None:
        pytest.skip("needs Chromium (apt install chromium), which is not here")
    return found


PROBE = """<script>
addEventListener('load', () => {
  const bad = [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length;
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const shown = [...document.querySelectorAll('figure.plot img')].map(i => Math.round(i.getBoundingClientRect().width));
  const used = new Set([...document.querySelectorAll('figure.plot img')].map(i => i.currentSrc.length));
  document.title = 'probe ' + JSON.stringify({images: document.images.length, bad, wide, shown, used: [...used]});
});
</script>"""


def probe(page: Path, folder: Path, width: int) -> dict:
    """What a browser of ``width`` CSS pixels makes of the page. The copy that it sees has the probe, and no policy
    against scripts; the page itself has neither."""
    html = page.read_text(encoding="utf-8")
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace("</body>", PROBE + "</body>")
    copy = folder / f"probe-{width}.html"
    copy.write_text(html, encoding="utf-8")
    done = pdf.run_browser([f"--window-size={width},1200", "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()])
    found = re.search(r"<title>probe (\{.*?\})</title>", done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found.group(1).replace("&quot;", '"'))


def requested(log: Path) -> set[str]:
    """Hosts that were asked for, less those of the browser's own housekeeping (which find no host: see pdf.FLAGS)."""
    hosts = set(re.findall(r'"url":"(?:https?|wss?)://([^/":]+)', log.read_text(encoding="utf-8", errors="replace")))
    return {h for h in hosts if not h.endswith(("google.com", "googleapis.com", "gvt1.com"))}


@browser
@pytest.mark.parametrize("width", [1400, 500])
def test_images_load_and_nothing_overflows(page: Path, tmp_path: Path, chromium: str, width: int) -> None:
    seen = probe(page, tmp_path, width)
    assert seen["images"] > 20
    assert seen["bad"] == 0
    assert seen["wide"] <= 0
    assert all(280 < w <= width for w in seen["shown"])


@browser
def test_narrow_screens_get_their_own_figures(page: Path, tmp_path: Path, chromium: str) -> None:
    wide, narrow = (probe(page, tmp_path, w)["used"] for w in (1400, 500))
    assert set(wide).isdisjoint(narrow)


@browser
def test_no_console_message_and_no_request(page: Path, tmp_path: Path, chromium: str) -> None:
    log = tmp_path / "net.json"
    done = pdf.run_browser(
        ["--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=4000", "--dump-dom", page.as_uri()]
    )
    assert "</html>" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    assert requested(log) == set()


@browser
def test_the_log_would_show_a_request(tmp_path: Path, chromium: str) -> None:
    """The check above can fail: a page that asks for something is seen to."""
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("oops")</script>', encoding="utf-8")
    log = tmp_path / "net.json"
    done = pdf.run_browser(
        ["--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=4000", "--dump-dom", bad.as_uri()]
    )
    assert "CONSOLE" in done.stderr
    assert requested(log) == {"127.0.0.1"}


@browser
def test_pdf(page: Path, chromium: str) -> None:
    path = write_pdf(page)
    assert path == page.with_suffix(".pdf")
    data = path.read_bytes()
    assert data.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", data))
    assert 4 <= pages <= 40
    path.unlink()  # so that the folder of `page` stays what write_report made


def test_pdf_without_a_browser_says_what_to_install(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHSYM_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(MissingDependencyError, match="apt install chromium"):
        write_pdf(page)


def test_pdf_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="morphsym analyze"):
        write_pdf(tmp_path / "report.html")
