"""Running experiments: workers side by side, each recording from the first frame to the last socket."""
