"""Scripts that build and check the packages. The Makefile runs them from the root of the repository."""
