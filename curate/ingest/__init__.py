"""Read raw input: WARC, PDF, JSON lines, Parquet, plain files."""
