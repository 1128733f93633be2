"""The clients: Chromium, Firefox, and a small program that replays the connection rules of 2018."""
