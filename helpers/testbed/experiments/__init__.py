"""What is recorded: each experiment a few declarative lines, and what does it."""
