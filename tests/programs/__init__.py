"""Programs that tests run in an interpreter of their own: `python -m tests.programs module.function argument ...`"""
