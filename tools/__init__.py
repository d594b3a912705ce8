"""What builds and checks the packages; run from the repository's root by the Makefile."""
