"""What attacks on researchers' releases get from an emulated town."""
