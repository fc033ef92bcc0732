"""The work around the cores: events in, one transaction of each store, then messages out."""
