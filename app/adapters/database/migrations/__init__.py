"""Alembic's migrations, run by app/adapters/database/engine.py at the first use of a database."""
