"""What all parts of Commonwatt agree on: units, records, blocks, messages, topics, configuration, the command line."""
