"""Writes THIRD-PARTY-LICENSES.txt: the licences of the crates that are linked into the extension module.

The texts are read from the sources that Cargo has unpacked. Run `make licences` after a change of Cargo.lock; otherwise
`make lint` fails.
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
OUTPUT = ROOT / "THIRD-PARTY-LICENSES.txt"

# Targets of the wheels. Other architectures link the same crates as one of these.
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-apple-darwin")

# C code that a crate includes, with its own licence.
BUNDLED = {"aws-lc-sys": "aws-lc/LICENSE", "zstd-sys": "zstd/LICENSE"}

# Crates without a licence text, and the crate of the same repository that has it.
SISTERS = {"alloc-stdlib": "alloc-no-stdlib"}

# If a crate is available under several licences, the shortest one is used, which is MIT's.
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
        """Returns the licence texts in the crate, without alternatives to the MIT licence."""
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
    """Returns the third-party crates in the extension module, without those for builds, macros and tests."""
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
    """Returns the whole file: an index, then each text once, under the names of all the crates that use it."""
    holders: dict[str, list[Crate]] = defaultdict(list)
    by_name = {crate.name: crate for crate in crates}
    for crate in crates:
        texts = by_name[SISTERS.get(crate.name, crate.name)].texts()
        if not texts:
            sys.exit(f"{crate.title} has no licence text: add its source to SISTERS")
        for text in texts:
            holders[text].append(crate)
    index = "\n".join(f"  {crate.title}" for crate in crates)
    parts = [
        "The extension module of geventhttpclient contains the crates below. A crate that is available under several\n"
        f"licences is used under the MIT licence.\n\n{index}",
        *("\n".join(crate.title for crate in found) + f"\n\n{text}" for text, found in holders.items()),
    ]
    return f"\n\n{RULE}\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is outdated")
    text = write(linked())
    if not parser.parse_args().check:
        OUTPUT.write_text(text, encoding="utf-8")
    elif OUTPUT.read_text(encoding="utf-8") != text:
        sys.exit(f"{OUTPUT.name} does not match Cargo.lock: run `make licences`")


if __name__ == "__main__":
    main()
