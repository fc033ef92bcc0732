"""Many towns: the table of the towns, and the commands over all of them."""
