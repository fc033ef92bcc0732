"""What the utility's commands share: their options, and the service that they ask."""
