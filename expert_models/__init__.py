"""Study in, Finding and Comparison out."""
