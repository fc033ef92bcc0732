"""The SQL of analysis, and the files that it reads."""
