"""The extension module as an interpreter without a GIL sees it."""

from __future__ import annotations

import ctypes
import sys

from geventhttpclient import _core
from tests.support.hub import ROOT


class Base(ctypes.Structure):
    _fields_ = [
        ("ob_refcnt", ctypes.c_ssize_t),
        ("ob_type", ctypes.c_void_p),
        ("m_init", ctypes.c_void_p),
        ("m_index", ctypes.c_ssize_t),
        ("m_copy", ctypes.c_void_p),
    ]


class Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("value", ctypes.c_void_p)]


class ModuleDef(ctypes.Structure):
    _fields_ = [
        ("m_base", Base),
        ("m_name", ctypes.c_char_p),
        ("m_doc", ctypes.c_char_p),
        ("m_size", ctypes.c_ssize_t),
        ("m_methods", ctypes.c_void_p),
        ("m_slots", ctypes.POINTER(Slot)),
    ]


# CPython's Include/moduleobject.h.
PY_MOD_GIL = 4
PY_MOD_GIL_NOT_USED = 1


def slots() -> dict[int, int | None]:
    """Returns the slots that the built module passes to the interpreter."""
    assert _core.__file__
    library = ctypes.PyDLL(_core.__file__)
    library.PyInit__core.restype = ctypes.POINTER(ModuleDef)
    found: dict[int, int | None] = {}
    table = library.PyInit__core().contents.m_slots
    for at in range(32):
        if table[at].slot == 0:
            break
        found[table[at].slot] = table[at].value
    return found


def test_module_definition_never_claims_to_work_without_the_gil() -> None:
    found = slots()
    assert found, f"no slots: not a multi-phase module on {sys.version}"
    assert found.get(PY_MOD_GIL, 0) != PY_MOD_GIL_NOT_USED


def test_module_source_declares_that_it_uses_the_gil() -> None:
    """A build for the stable ABI of a CPython before 3.13 has no such slot: the source has to say it."""
    source = (ROOT / "crates" / "python" / "src" / "lib.rs").read_text()
    assert source.count("#[pymodule(") == source.count("#[pymodule(gil_used = true)]") == 1
