"""Library of all parts of Commonwatt: units, records, blocks, messages, topics, configuration, the command line."""
