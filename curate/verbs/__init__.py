"""The verbs that have verbs of their own, or many flags. Light: each imports its room when it is called."""
