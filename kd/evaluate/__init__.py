"""Evaluation: predictions on every subset of modalities, metrics and cost; nothing here trains."""
