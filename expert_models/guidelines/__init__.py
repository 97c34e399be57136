"""Guidelines for lung nodules as tables: measurements and facts in, one row or the names of what is missing out."""
