"""A town's year as its plant sees it, and what each policy of buying makes of it."""
