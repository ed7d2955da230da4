"""How a run is shown while it goes on: a bar, plain lines, or nothing."""
