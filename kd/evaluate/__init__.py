"""Evaluation: predictions on every subset of modalities, metrics and cost; nothing here trains."""

BAYES = "Bayes rule"
"""The row of a table that no method can pass but by luck; only for data whose law is known."""
