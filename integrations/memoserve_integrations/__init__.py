"""memoserve in the frameworks: one module for each, with one vocabulary."""
