"""What a gateway does for the upgrade of its controller: it fetches a release, and judges the one that it runs."""
