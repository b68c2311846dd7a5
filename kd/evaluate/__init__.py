"""Evaluation: predictions on every subset of modalities, metrics, statistics and cost; nothing here trains."""
