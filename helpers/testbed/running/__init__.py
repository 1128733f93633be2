"""How an experiment runs: workers side by side, from the first frame to the last socket."""
