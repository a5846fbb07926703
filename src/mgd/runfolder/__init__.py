"""What a run leaves on the disk: names of files, typed records, whole writes, reading."""
