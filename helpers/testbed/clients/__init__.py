"""Who asks: Chromium, Firefox, and the rules of 2018, replayed."""
