"""Commands of foreign devices in a closed loop: told, seen to obey, told again, and ended when we are gone."""
