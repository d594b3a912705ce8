"""Writes THIRD-PARTY-LICENSES.txt: the licences of the crates that are linked into the extension module.

Their texts come from the sources that Cargo has unpacked. Whoever changes Cargo.lock runs `make licences`; `make lint`
fails until then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
WRITTEN = ROOT / "THIRD-PARTY-LICENSES.txt"

# Where wheels are made for. What only another architecture links is no different from these.
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-apple-darwin")

# C code that a crate brings along, with a licence of its own.
BUNDLED = {"aws-lc-sys": "aws-lc/LICENSE", "zstd-sys": "zstd/LICENSE"}

# Crates that ship no text, and the one of the same repository that does.
SISTERS = {"alloc-stdlib": "alloc-no-stdlib"}

# Where a crate may be had by any of several licences, the shortest one is taken: MIT's.
ALTERNATIVES = ("apache", "isc", "unlicense", "zlib")

RULE = "=" * 100


class Crate(NamedTuple):
    name: str
    version: str
    licence: str  # an SPDX expression
    directory: Path

    @property
    def title(self) -> str:
        return f"{self.name} {self.version} ({self.licence})"

    def texts(self) -> list[str]:
        """The licences that it ships, without those that need not be taken."""
        files = sorted(self.directory.iterdir())
        found = [file for file in files if file.name.lower().startswith(("licen", "copyright", "notice"))]
        found = found or [file for file in files if file.name == "COPYING"]
        if any("mit" in file.name.lower() for file in found):
            found = [file for file in found if not any(word in file.name.lower() for word in ALTERNATIVES)]
        if self.name in BUNDLED:
            found.append(self.directory / BUNDLED[self.name])
        return [file.read_text(encoding="utf-8").strip() for file in found]


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked() -> list[Crate]:
    """The crates of others in the extension module: no build scripts, no macros, no tests."""
    wanted = set()
    for target in TARGETS:
        tree = (
            "tree",
            "--locked",
            "--package=geventhttpclient-python",
            "--edges=normal,no-proc-macro",
            "--prefix=none",
        )
        wanted |= {tuple(line.split()[:2]) for line in cargo(*tree, "--target", target, "--format={p}").splitlines()}
    packages = json.loads(cargo("metadata", "--locked", "--format-version=1"))["packages"]
    return sorted(
        Crate(each["name"], each["version"], each["license"] or "?", Path(each["manifest_path"]).parent)
        for each in packages
        if (each["name"], f"v{each['version']}") in wanted and each["source"]
    )


def write(crates: list[Crate]) -> str:
    """The whole file: an index, then each text once, under the names of all the crates that have it."""
    holders: dict[str, list[Crate]] = defaultdict(list)
    by_name = {crate.name: crate for crate in crates}
    for crate in crates:
        texts = by_name[SISTERS.get(crate.name, crate.name)].texts()
        if not texts:
            sys.exit(f"{crate.title} ships no licence: who has its text?")
        for text in texts:
            holders[text].append(crate)
    index = "\n".join(f"  {crate.title}" for crate in crates)
    parts = [
        "The extension module of geventhttpclient contains the crates below. Where one may be used by any of several\n"
        f"licences, it is used by the MIT licence.\n\n{index}",
        *("\n".join(crate.title for crate in found) + f"\n\n{text}" for text, found in holders.items()),
    ]
    return f"\n\n{RULE}\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    text = write(linked())
    if not parser.parse_args().check:
        WRITTEN.write_text(text, encoding="utf-8")
    elif WRITTEN.read_text(encoding="utf-8") != text:
        sys.exit(f"{WRITTEN.name} is not that of Cargo.lock: make licences")


if __name__ == "__main__":
    main()
