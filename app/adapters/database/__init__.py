"""The database: one Database, and over it one class for each port. Any SQLAlchemy URL; SQLite and PostgreSQL tested."""
