"""Adapters of the language model port."""
