"""What a reading is: units, records, interval blocks, validation, effects, errors. Imports nothing of ours."""
