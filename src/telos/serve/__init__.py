"""Trained runs behind an HTTP interface that OpenAI's clients speak, and a page to try them in a browser."""
