"""curate: from raw crawls to the right mix of pre-training data."""

__version__ = "0.1.0"
