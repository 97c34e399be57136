"""Findings in, Evidence from the literature out."""
