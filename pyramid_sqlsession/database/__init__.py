"""The database connections through which sessions are read and written."""
