"""What tests, benchmarks and make targets share; not part of the product."""
