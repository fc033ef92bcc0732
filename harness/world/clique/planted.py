from harness.world.planted import Bug
CLIQUE_BUGS: dict[str, Bug] = {}
