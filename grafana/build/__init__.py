"""Makes the dashboards."""
