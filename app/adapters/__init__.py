"""Adapters of the ports of app: named by app/bootstrap.py only."""
