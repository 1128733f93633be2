"""Who watches: dumpcap, ss, Chromium's NetLog; and the datasheet of what they saw."""
