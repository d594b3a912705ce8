"""The Python code of the README is one program: it runs, and prints what its comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.server import running

README = Path(__file__).parent.parent / "README.md"
TIMEOUT_SECONDS = 60


def test_the_code_of_the_readme_works() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    with running() as url:
        program = "\n".join(blocks).replace("http://127.0.0.1:8080", url)
        program = program.replace('"127.0.0.1", 8080', f'"127.0.0.1", {url.rpartition(":")[2]}')
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    promised = re.findall(r"^print\(.*\) +# ([^,:\n]+)", program, re.MULTILINE)
    assert len(promised) >= 5
    printed = iter(done.stdout.splitlines())
    for text in promised:
        assert text.strip() in printed  # goes on from where the last one was found: the order counts
