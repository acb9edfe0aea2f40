"""The records of a report, their checks, and how they are read and written."""
