"""The days of a town in one loop: physics, controllers, the utility's decisions, and what is counted. Pure."""
