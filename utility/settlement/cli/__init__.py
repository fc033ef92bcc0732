"""Commands of settlement and of the record of sharing."""
