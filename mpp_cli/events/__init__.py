"""What a run tells in JSON: the events, and where they are written."""
