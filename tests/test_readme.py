"""The README's Python works as it stands, in about ten lines; its links lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len([x for x in code.splitlines() if x.strip()]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    told = capsys.readouterr().out
    assert "mini_xception" in told
    assert "face_expression_net" in told
    assert "nan" not in told.lower().split()


def test_links():
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
