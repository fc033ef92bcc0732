"""Properties are about what is right, not how fast: a busy machine fails none of them."""

from hypothesis import HealthCheck, settings

settings.register_profile("commonwatt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("commonwatt")
