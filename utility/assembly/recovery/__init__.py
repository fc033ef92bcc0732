"""What is sound of a damaged database, recovered, and what it needs afterwards."""
