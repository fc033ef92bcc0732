"""People and programs: roles, sessions, passwords, second factors, tokens, and the rule of two people."""
