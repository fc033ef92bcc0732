"""What all routes, pages and commands share: rights, answers, bounds on requests."""
