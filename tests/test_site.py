"""The documentation site builds without a warning: every link, every anchor and every docstring of the reference."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an announcement, about no page of ours
    build = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    assert 'id="lstmjax.init_params"' in (tmp_path / "reference" / "init" / "index.html").read_text(encoding="utf-8")
    inside = (tmp_path / "reference" / "inside" / "index.html").read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub("<[^>]*>", "", inside)).split())
    signature = text.split("gate_statistics( params: LSTMParams", 1)[1].split("->", 1)[0]
    assert "residual: bool = False" in signature  # a keyword, where the source has **options
    assert "options" not in signature
