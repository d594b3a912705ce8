"""Programs that tests run in a separate interpreter: `python -m tests.programs module.function argument ...`"""
