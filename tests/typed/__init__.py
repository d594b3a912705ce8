"""Programs that use every public name as users do, and say of each result which type it has.

mypy and pyright read them in `make lint`, strictly; tests/client/test_typing.py runs them, and sees to it that no
public name is missing. `refused.py` has what must not pass.
"""
