"""How Sphinx builds the documentation: `make docs`. Warnings are errors there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util import logging

import geventhttpclient

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
# Quotes in a docstring are those of Python.
smartquotes = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
add_module_names = False
# Not nitpicky: many a type in a signature is of a package that is not linked to. Links in pages are looked at anyway.
python_use_unqualified_type_names = True
# Longer ones have a line for each argument.
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"geventhttpclient {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["house.css"]
pygments_style = "friendly"
pygments_dark_style = "monokai"


# The command line, which has a page of its own.
NOT_TO_BE_IMPORTED = frozenset({"cli"})


def public_names() -> dict[str, set[str]]:
    """By public module, what it offers: `__all__`, or else the classes and functions that are its own.

    The modules within a package are the package's own business: it offers what is in its `__all__`.
    """
    found: dict[str, set[str]] = {}
    modules = {info.name for info in pkgutil.iter_modules(geventhttpclient.__path__)} - NOT_TO_BE_IMPORTED
    names = sorted(name for name in modules if not name.startswith("_"))
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
    """Warns of each public name that the reference leaves out. One that is imported is described where it is from."""
    objects = env.get_domain("py").objects  # type: ignore[attr-defined]
    for module, names in public_names().items():
        for name in sorted(names):
            value = getattr(importlib.import_module(module), name)
            origin = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}"
            is_described = f"{module}.{name}" in objects or origin in objects
            # A constant or an alias that is imported does not say where it is from.
            is_constant = getattr(value, "__qualname__", None) != name
            if not is_described and not (is_constant and any(known.endswith(f".{name}") for known in objects)):
                logging.getLogger(__name__).warning("%s.%s is not in the reference", module, name)


def show_code(_app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """In a docstring, what is indented behind a paragraph is code or a drawing, and is shown as it is written."""
    shown: list[str] = []
    paragraph = within = False
    for line in lines:
        if line.startswith("Create new instance of "):
            continue  # what a NamedTuple says of itself
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
    """A class as a default is shown by its name; and of two classes of one name, the right one is meant."""
    if signature is not None:
        signature = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature).replace("<object object>", "...")
        if name.startswith(("geventhttpclient.hooks.", "geventhttpclient.opentelemetry.")):
            signature = re.sub(r"(?<![\w.])Request\b", "geventhttpclient.hooks.Request", signature)
        if name.startswith("geventhttpclient.httpx_transport."):
            signature = re.sub(r"\bhttpx\.(Request|Response)\b", r"httpx._models.\1", signature)
            returned = returned and returned.replace("httpx.Response", "httpx._models.Response")
    return signature, returned


def reach_out(_app: Sphinx, name: str, source: list[str]) -> None:
    """Has links to Markdown outside of the documentation offer the file: it is no page here."""
    if "/" not in name and name != "changelog":
        source[0] = re.sub(r"\]\((\.\./[\w./-]+\.md)(?:#[\w-]+)?\)", r"](path:\1)", source[0])


def show_pictures(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Has `<picture>`, as it is written for GitHub, be two images here: furo shows the one that its colours are for."""
    source[0] = re.sub(r"<picture>.*?</picture>", _as_images, source[0], flags=re.DOTALL)


def _as_images(picture: re.Match[str]) -> str:
    dark = re.search(r'<source [^>]*dark[^>]*srcset="([^"]+)"', picture[0])
    light = re.search(r'<img [^>]*src="([^"]+)"', picture[0])
    alt = re.search(r'<img [^>]*alt="([^"]*)"', picture[0])
    if not (dark and light and alt):
        raise ValueError(f"a picture wants a dark source, an image and an alt text: {picture[0]}")
    return "\n\n".join(
        f"```{{image}} {file[1]}\n:alt: {alt[1]}\n:class: only-{colours}\n```"
        for file, colours in ((light, "light"), (dark, "dark"))
    )


def drop_object(_app: Sphinx, doctree: nodes.document) -> None:
    """That a class has no bases need not be said."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", name_classes)
    app.connect("source-read", reach_out)
    app.connect("source-read", show_pictures)
    app.connect("doctree-read", drop_object)
    app.connect("autodoc-process-docstring", show_code)
    app.connect("env-check-consistency", check_reference)
