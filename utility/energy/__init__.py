"""What flowed between whom, computed from readings alone."""
