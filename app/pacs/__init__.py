"""The way in and out through a PACS: studies that are sent to us, priors that we fetch, results that we send."""
