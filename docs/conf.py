"""Sphinx configuration of the documentation: `make docs`, where warnings are errors."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util import logging

import geventhttpclient
from geventhttpclient import adapters

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "geventhttpclient"
author = "the geventhttpclient authors"
version = release = geventhttpclient.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["pictures"]
# A single backtick in a docstring is code, as everywhere else.
default_role = "code"
# Quotes in docstrings are often Python code.
smartquotes = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
add_module_names = False
# Not nitpicky: many types in signatures are from packages without links. Links in pages are checked anyway.
python_use_unqualified_type_names = True
# Longer signatures have one argument per line.
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"geventhttpclient {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["custom.css"]
pygments_style = "friendly"
pygments_dark_style = "monokai"


# The command line, which has a page of its own, and a package that is nothing but its modules.
NOT_TO_BE_IMPORTED = frozenset({"cli", "adapters"})


def public_names() -> dict[str, set[str]]:
    """Returns the public names of each public module: `__all__`, or the classes and functions that it defines.

    Modules inside a package are not public: the package exports the names in its `__all__`.
    """
    found: dict[str, set[str]] = {}
    modules = {info.name for info in pkgutil.iter_modules(geventhttpclient.__path__)}
    modules |= {info.name for info in pkgutil.iter_modules(adapters.__path__, "adapters.")}
    modules -= NOT_TO_BE_IMPORTED
    names = sorted(name for name in modules if "_" not in (name[0], name.rpartition(".")[2][0]))
    for name in ["geventhttpclient", *(f"geventhttpclient.{name}" for name in names)]:
        module = importlib.import_module(name)
        own = {
            key
            for key, value in vars(module).items()
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == name
        }
        found[name] = {key for key in getattr(module, "__all__", own) if not key.startswith("_")}
    return found


def check_reference(app: Sphinx, env: BuildEnvironment) -> None:
    """Warns about each public name that is missing in the reference, unless the module that defines it has it."""
    objects = env.get_domain("py").objects  # type: ignore[attr-defined]
    for module, names in public_names().items():
        for name in sorted(names):
            value = getattr(importlib.import_module(module), name)
            origin = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}"
            is_described = f"{module}.{name}" in objects or origin in objects
            # An imported constant or alias does not know its origin.
            is_constant = getattr(value, "__qualname__", None) != name
            if not is_described and not (is_constant and any(known.endswith(f".{name}") for known in objects)):
                logging.getLogger(__name__).warning("%s.%s is not in the reference", module, name)


def show_code(_app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Marks indented text after a paragraph of a docstring as a literal block: it is code or a drawing."""
    shown: list[str] = []
    paragraph = within = False
    for line in lines:
        if line.startswith("Create new instance of "):
            continue  # the generated docstring of a NamedTuple
        indented = line.startswith("    ")
        if line.strip() and not within and indented and paragraph and shown and not shown[-1].strip():
            if not line.lstrip().startswith(">>>"):
                shown += ["::", ""]
            within = True
        elif line.strip() and not indented:
            within = False
            paragraph = not line.startswith(("- ", "  "))
        shown.append(line)
    lines[:] = shown


def name_classes(
    _app: Sphinx, _what: str, name: str, _value: object, _options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Shows default values that are classes by name, and qualifies names that several classes have."""
    if signature is not None:
        signature = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature).replace("<object object>", "...")
        if name.startswith(("geventhttpclient.hooks.", "geventhttpclient.opentelemetry.")):
            signature = re.sub(r"(?<![\w.])Request\b", "geventhttpclient.hooks.Request", signature)
    return signature, returned


def link_files(_app: Sphinx, name: str, source: list[str]) -> None:
    """Turns links to Markdown files outside of docs/ into downloads: they are not pages here."""
    up = "../" * (name.count("/") + 1)
    source[0] = re.sub(rf"\]\(({up}[\w./-]+\.md)(?:#[\w-]+)?\)", r"](path:\1)", source[0])


def show_pictures(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Turns each `<picture>`, written for GitHub, into two images: furo shows the one for its colours."""
    source[0] = re.sub(r"<picture>.*?</picture>", _as_images, source[0], flags=re.DOTALL)


def _as_images(picture: re.Match[str]) -> str:
    dark = re.search(r'<source [^>]*dark[^>]*srcset="([^"]+)"', picture[0])
    light = re.search(r'<img [^>]*src="([^"]+)"', picture[0])
    alt = re.search(r'<img [^>]*alt="([^"]*)"', picture[0])
    if not (dark and light and alt):
        raise ValueError(f"a picture needs a dark source, an image and an alt text: {picture[0]}")
    return "\n\n".join(
        f"```{{image}} {file[1]}\n:alt: {alt[1]}\n:class: only-{colours}\n```"
        for file, colours in ((light, "light"), (dark, "dark"))
    )


def drop_object(_app: Sphinx, doctree: nodes.document) -> None:
    """Removes the line "Bases: object"."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", name_classes)
    app.connect("source-read", link_files)
    app.connect("source-read", show_pictures)
    app.connect("doctree-read", drop_object)
    app.connect("autodoc-process-docstring", show_code)
    app.connect("env-check-consistency", check_reference)
