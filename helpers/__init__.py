"""Helpers of the course: captures, connections, exchanges, states, experiments, figures, report, claims, exercises."""
