import importlib
import sys

module, _, function = sys.argv[1].partition(".")
getattr(importlib.import_module(f"tests.programs.{module}"), function)(*sys.argv[2:])
