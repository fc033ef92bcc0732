"""People's own pages and commands: invitations, logins, tokens, the audit log."""
