"""The utility as an OpenADR 3.1 VTN that is only read: prices, supply states and import limits (docs/openadr.md)."""
