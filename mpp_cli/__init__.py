"""The ``mpp`` command: pipelines of stages from the command line."""
