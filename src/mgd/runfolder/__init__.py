"""The record that a run leaves on the disk: its files, how they are written and how they are read."""
