"""Internal helpers of the package, which may change in any release."""
