"""The REST endpoint for EHR integration: studies in, reports out. `make_api` in api.py puts it together."""
