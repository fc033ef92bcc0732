def run(world, rng, *, write):
    pass


def rot(world, rng):
    pass
