"""Devices as the utility knows them: registered, heard, and with the enrolment's folder also their certificates."""
