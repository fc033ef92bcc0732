"""What passes between a controller and the utility beside readings: reports, signatures, certificates, upgrades."""
