"""The controllers of a town together: their releases, certificates and disks; reports; rollouts of a release."""
