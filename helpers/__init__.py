"""Helpers of the course: captures, connections, exchanges, states, experiments, plots, exercises."""
