"""Have a language model rewrite documents, and keep only what passes the gates."""
