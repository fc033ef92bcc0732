"""A gateway's part in its cliques: what ``gateway.takeover`` decides is carried out here."""
