"""Pipelines of stages over worker processes and threads. Import from ``atbu.mp_pipeline.mp_pipeline``."""
