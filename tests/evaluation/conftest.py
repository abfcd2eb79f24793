from hypothesis import HealthCheck, settings

# Shared machines stall for longer than hypothesis's deadline of 0.2 s an example allows.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")
