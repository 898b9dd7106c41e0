"""The verbs that have verbs of their own, or many flags. Light: each imports its room when it is called."""

from __future__ import annotations

import argparse


def number_of_workers(text: str) -> int:
    """Return the value of --workers. Raises what argparse shows as a wrong argument."""
    number = int(text) if text.isdecimal() and len(text) < 5 else -1
    if not 0 <= number <= 1024:
        raise argparse.ArgumentTypeError(f"invalid number of processes '{text}': a whole number between 0 and 1024")
    return number
