"""The session table: the model, and the SQL that reads and writes its rows."""
