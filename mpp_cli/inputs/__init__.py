"""Finding the inputs of a run: named files, lists of names, folders and what is in them."""
