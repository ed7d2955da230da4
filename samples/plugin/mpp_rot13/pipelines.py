"""The pipeline: a list of stages, or a function that returns one. Other stages stand in it by their names."""

from mpp_rot13.stages import Rot13


def secret():
    """Rotate, then compress."""
    return [Rot13(), "zstd"]
