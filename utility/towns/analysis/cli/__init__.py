"""``commonwatt analyse``, and the cluster that it may run on."""
