"""Jobs: when they are due, which process runs them, and what is known of their runs."""
