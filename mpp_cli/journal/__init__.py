"""What a run remembers: a file of JSON lines from which a later run sees what is done."""
