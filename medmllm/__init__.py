"""Study, findings, comparisons and evidence in, a grounded Report out."""
