"""The changes of the tables, one file for each, run in order at the start: a file never changes once it is released."""
