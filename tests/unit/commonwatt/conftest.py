"""Property tests have no deadline, so that they pass on a busy machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("commonwatt", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("commonwatt")
