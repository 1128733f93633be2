"""The witnesses of a recording: dumpcap, ss, Chromium's NetLog; and the datasheet of what they saw."""
