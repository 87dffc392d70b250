"""A file for each revision: `v<revision>_<what>.py`."""
