"""A plug-in for mpp: the stage rot13 and the pipeline secret."""
