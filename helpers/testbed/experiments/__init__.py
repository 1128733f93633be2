"""The experiments: a few declarative lines for each, and the modules that record them."""
